"""The command `python -m pi0_jax.data.export`; its code is pi0_jax/apps/export.py."""

from pi0_jax.apps.export import command

if __name__ == "__main__":
    command()
