"""The command `python -m convert.torch_to_flax`: pi0_jax/convert/commands/torch_to_flax.py."""

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.torch_to_flax import main

if __name__ == "__main__":
    command.run(main)
