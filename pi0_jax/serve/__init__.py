"""A policy server over openpi's websocket protocol, and its client for rollouts."""
