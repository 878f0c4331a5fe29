"""RIPT: groups of rollouts, leave-one-out advantages, objectives by name, and the loop."""
