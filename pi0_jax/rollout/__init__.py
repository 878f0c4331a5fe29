"""Policies in simulators: episodes, evaluations and videos. Knows nothing of learning."""
