"""Simulators on the machines of a cluster that Ray runs."""
