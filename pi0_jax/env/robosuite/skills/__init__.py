"""What a scripted arm can do with LIBERO's objects, drawers and knobs; each skill yields actions."""
