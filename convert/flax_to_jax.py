"""The command `python -m convert.flax_to_jax`: pi0_jax/convert/commands/flax_to_jax.py."""

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.flax_to_jax import main

if __name__ == "__main__":
    command.run(main)
