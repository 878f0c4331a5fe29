"""Faults that are done to runs on purpose: the parts of bench/faults.py."""
