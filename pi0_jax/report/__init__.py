"""report.html: a run folder as one page that opens from disk."""
