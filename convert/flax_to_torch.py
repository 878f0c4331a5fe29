"""The command `python -m convert.flax_to_torch`: pi0_jax/convert/commands/flax_to_torch.py."""

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.flax_to_torch import main

if __name__ == "__main__":
    command.run(main)
