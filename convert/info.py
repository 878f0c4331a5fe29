"""The command `python -m convert.info`: pi0_jax/convert/commands/info.py."""

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.info import main

if __name__ == "__main__":
    command.run(main)
