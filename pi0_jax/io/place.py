"""Whether a file or folder may be made at a place and fits there: said before the work."""

import os
import shutil
from pathlib import Path

from pi0_jax.errors import InputError


def check_space(path: Path, size: int, purpose: str) -> None:
    """The disk has room.

    Args:
        path: what is to be written; it and its parents need not exist.
        size: bytes.
        purpose: what needs them, for the message, such as "a run".

    Raises:
        InputError: too little is free.
    """
    places = (path, *path.absolute().parents)
    free = shutil.disk_usage(next(place for place in places if place.exists())).free
    if free < size:
        raise InputError(
            f"{path}: expected {size / 1e9:.2f} GB of free disk for {purpose}, got "
            f"{free / 1e9:.2f} GB; make room or choose another place"
        )


def check_free(path: Path, *, overwrite: bool) -> None:
    """A folder may be made here.

    Args:
        path: the folder to be.
        overwrite: it may be there already, if pi0_jax wrote it (it has a manifest.json).

    Raises:
        InputError: it may not, with the reason.
    """
    check_writable(path)
    if not path.exists():
        return
    if not overwrite:
        raise InputError(f"{path}: exists already; remove it or choose another folder")
    if path.is_file() or (any(path.iterdir()) and not (path / "manifest.json").is_file()):
        raise InputError(
            f"{path}: was not written by pi0_jax (no manifest.json), so it is not overwritten; "
            "choose another folder"
        )


def check_writable(path: Path) -> None:
    """Something may be made under this name.

    Raises:
        InputError: it lies in a file, behind a dead link, or where this user may not write.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to {path.readlink()}, which does not exist")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: you may not write in {above}; choose another place")
