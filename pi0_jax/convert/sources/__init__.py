"""A checkpoint of any layout as layers in our axes."""
