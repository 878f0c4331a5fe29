"""Files: parameter trees, metrics, videos, and writing that is whole or not at all."""
