"""Evaluate a policy folder: the command `pi0-eval`; its code is pi0_jax/apps/evaluate.py."""

from pi0_jax.apps.entry import evaluate

if __name__ == "__main__":
    evaluate()
