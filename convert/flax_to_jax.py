"""The command `python -m convert.flax_to_jax`; its code is pi0_jax/convert/flax_to_jax.py."""

from pi0_jax.convert import command
from pi0_jax.convert.flax_to_jax import main

if __name__ == "__main__":
    command.run(main)
