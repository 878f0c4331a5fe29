"""Commands that convert checkpoints; the code is in pi0_jax/convert/."""
