"""pi0_jax: the vision-language-action flow model pi0 in JAX, with reinforcement learning."""
