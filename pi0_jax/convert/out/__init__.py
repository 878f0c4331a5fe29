"""Out of a policy folder: what other libraries need, and what they cannot carry."""
