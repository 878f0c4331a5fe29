"""Files of a foreign checkpoint: found, fetched, read; none of them is ever unpickled with code."""
