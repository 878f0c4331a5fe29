"""Settings of the runs, as ml_collections files: `--config demo:full` or a path."""
