"""Convert, check and describe checkpoints.

pi0-convert torch-to-flax SRC DST   any PyTorch layout -> policy folder
pi0-convert jax-to-flax SRC DST     official Orbax checkpoint -> policy folder
pi0-convert flax-to-torch SRC DST   policy folder -> a PyTorch library's folder
pi0-convert flax-to-jax SRC DST     policy folder -> openpi's Orbax checkpoint
pi0-convert verify POLICY           against reference outputs, or against another checkpoint
pi0-convert info SRC                what a checkpoint of any layout is

Each says more with --help.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from pi0_jax.convert.commands import command as shared
from pi0_jax.errors import InputError

COMMANDS = {
    "torch-to-flax": "torch_to_flax",
    "jax-to-flax": "jax_to_flax",
    "flax-to-torch": "flax_to_torch",
    "flax-to-jax": "flax_to_jax",
    "verify": "verify",
    "info": "info",
}


def command() -> NoReturn:
    """`pi0-convert`."""
    shared.run(main)


def main(argv: Sequence[str]) -> int:
    """Runs the named command; returns its exit code.

    Raises:
        InputError: no command has that name.
    """
    if not argv or argv[0] in ("--help", "-h"):
        sys.stdout.write(__doc__ or "")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        raise InputError(f"expected one of {', '.join(COMMANDS)}, got {argv[0]!r}; see --help")
    # Imported only now, so that --help and `info` do not wait for the imports of all commands.
    return importlib.import_module(f"pi0_jax.convert.commands.{COMMANDS[argv[0]]}").main(argv[1:])
