"""Shorthand for pi0_jax/configs/aloha.py, where the settings stand."""

from pi0_jax.configs.aloha import get_config

__all__ = ["get_config"]
