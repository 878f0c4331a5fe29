"""Shorthand for pi0_jax/configs/libero.py, where the settings stand."""

from pi0_jax.configs.libero import get_config

__all__ = ["get_config"]
