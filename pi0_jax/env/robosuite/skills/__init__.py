"""What a scripted arm can do with LIBERO's objects, drawers and knobs; a skill yields actions."""
