"""Tell what a bug report needs: versions, devices, renderer, LIBERO's assets.

pi0-info
"""

import platform
import sys
from collections.abc import Callable
from typing import NoReturn

import jax

from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero_assets import described, local_assets
from pi0_jax.errors import InputError
from pi0_jax.run.folder import versions


def command() -> NoReturn:
    """`pi0-info`."""
    if {"--help", "-h"} & set(sys.argv):
        sys.stdout.write(__doc__ or "")
        sys.exit(0)
    if len(sys.argv) > 1:
        sys.stderr.write(f"error: unexpected argument {sys.argv[1]!r}; see --help\n")
        sys.exit(2)
    found = facts()
    width = max(map(len, found)) + 2  # characters of the longest name, and two spaces
    sys.stdout.write("".join(f"{name:<{width}}{value}\n" for name, value in found.items()))
    sys.exit(0)


def facts() -> dict[str, str]:
    """Facts about this machine by name; for a part that is missing, the reason."""
    return {
        "system": platform.platform(),
        **versions(),
        "devices": ", ".join(f"{device} ({device.device_kind})" for device in jax.devices()),
        "renderer": _or_cause(choose_renderer),
        "LIBERO assets": _or_cause(_assets),
    }


def _assets() -> str:
    folder = local_assets()
    return described(folder) if folder else "none; fetched at first use"


def _or_cause(find: Callable[[], str]) -> str:
    # This command is for broken installations, so a missing part is a fact and not an error.
    try:
        return find()
    except InputError as error:
        return f"none: {error}"
