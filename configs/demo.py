"""Shorthand for pi0_jax/configs/demo.py, where the settings stand."""

from pi0_jax.configs.demo import get_config

__all__ = ["get_config"]
