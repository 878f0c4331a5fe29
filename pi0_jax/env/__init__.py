"""Simulators as pure functions of a state value; imports neither jax nor torch."""
