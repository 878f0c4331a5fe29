"""Shorthand for pi0_jax/configs/finetune.py, where the settings stand."""

from pi0_jax.configs.finetune import get_config

__all__ = ["get_config"]
