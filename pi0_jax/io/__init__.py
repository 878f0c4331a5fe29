"""Files: parameter trees, episodes, metrics, videos, and atomic writing."""
