"""The command `python -m convert.verify`: pi0_jax/convert/commands/verify.py."""

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.verify import main

if __name__ == "__main__":
    command.run(main)
