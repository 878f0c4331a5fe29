"""Parameters, optimizer, update step and checkpoints, for any robot and any loss."""
