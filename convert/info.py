"""The command `python -m convert.info`; its code is pi0_jax/convert/info.py."""

from pi0_jax.convert import command
from pi0_jax.convert.info import main

if __name__ == "__main__":
    command.run(main)
