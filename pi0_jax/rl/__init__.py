"""RIPT: rollouts, leave-one-out advantages, training windows and the CFG flow-matching loss."""
