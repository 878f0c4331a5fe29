"""The commands of `pi0-convert`, and what they share."""
