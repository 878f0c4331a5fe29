"""Parameters, optimizer, update step and checkpoints; knows nothing of robots."""
