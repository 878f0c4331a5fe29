"""RIPT: rollouts, leave-one-out advantages, and the CFG flow-matching loss."""
