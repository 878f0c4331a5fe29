"""Evaluate a policy folder: the command `pi0-eval`; its code is pi0_jax/apps/evaluate.py."""

from pi0_jax.apps.evaluate import command

if __name__ == "__main__":
    command()
