"""The command `python -m convert.jax_to_flax`; its code is pi0_jax/convert/jax_to_flax.py."""

from pi0_jax.convert import command
from pi0_jax.convert.jax_to_flax import main

if __name__ == "__main__":
    command.run(main)
