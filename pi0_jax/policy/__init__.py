"""Policies: how they act, and the folder in which they lie."""
