"""A run: its folder, what its stages have in hand, and its success rates."""
