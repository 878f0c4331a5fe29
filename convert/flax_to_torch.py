"""The command `python -m convert.flax_to_torch`; its code is pi0_jax/convert/flax_to_torch.py."""

from pi0_jax.convert import command
from pi0_jax.convert.flax_to_torch import main

if __name__ == "__main__":
    command.run(main)
