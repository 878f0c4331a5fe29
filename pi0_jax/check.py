"""`python -m pi0_jax.check FOLDER`: whether everything below a folder is as it was written."""

from pi0_jax.apps.check import command

if __name__ == "__main__":
    command()
