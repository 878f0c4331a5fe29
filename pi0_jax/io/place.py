"""Checks, before any work, that a file or folder may be made at a place and fits there; memory."""

import os
import shutil
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

_MEMORY = Path("/proc/meminfo")


def check_space(path: Path, size: int, purpose: str) -> None:
    """Checks that the disk has room.

    Args:
        path: what is to be written; it and its parents need not exist.
        size: bytes.
        purpose: what needs them, for the message, such as "a run".

    Raises:
        InputError: too little is free.
    """
    # The nearest parent that exists lies on the same disk.
    places = (path, *path.absolute().parents)
    free = shutil.disk_usage(next(place for place in places if place.exists())).free
    if free < size:
        raise InputError(
            f"{path}: expected {size_text(size)} of free disk for {purpose}, got "
            f"{size_text(free)}; make room or choose another place"
        )


def free_memory() -> int | None:
    """Bytes of host memory that programs may still take; None where the system does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:  # no Linux
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    # Linux counts in kibibytes.
    return int(found[0][1]) * 1024 if found else None


def size_text(size: int) -> str:
    """A number of bytes for a message, such as "13.02 GB" or "84 kB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"


def check_free(path: Path, *, overwrite: bool) -> None:
    """Checks that a folder may be made here.

    Args:
        path: the folder to make.
        overwrite: it may exist already, if pi0_jax wrote it (it has a manifest.json).

    Raises:
        InputError: it may not be made, with the reason.
    """
    check_writable(path)
    if not path.exists():
        return
    if not overwrite:
        raise InputError(f"{path}: exists already; remove it or choose another folder")
    # An empty folder may be replaced; anything else could be the user's own.
    if path.is_file() or (any(path.iterdir()) and not _is_ours(path)):
        raise InputError(
            f"{path}: was not written by pi0_jax (no manifest.json of it), so it is not "
            "overwritten; choose another folder"
        )


def _is_ours(folder: Path) -> bool:
    """Whether pi0_jax wrote a folder: other programs have a manifest.json too."""
    marks = (("manifest.json", "made_by"), ("config.json", "format_version"))
    return (folder / "manifest.json").is_file() and any(
        _has(folder / name, key) for name, key in marks
    )


def _has(path: Path, key: str) -> bool:
    try:
        return key in read_object(path)
    except (OSError, InputError):
        return False


def check_writable(path: Path) -> None:
    """Checks that something may be made under this name.

    Raises:
        InputError: a parent is a file, the name is a dead link, or this user may not write there.
    """
    # The folder would be made at the link's target, which nobody named here.
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to {path.readlink()}, which does not exist")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: you may not write in {above}; choose another place")
