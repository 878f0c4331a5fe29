"""The command `python -m convert.verify`; its code is pi0_jax/convert/verify.py."""

from pi0_jax.convert import command
from pi0_jax.convert.verify import main

if __name__ == "__main__":
    command.run(main)
