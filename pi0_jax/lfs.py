"""git-lfs pointers: what a clone without git-lfs has in place of its large files.

A pointer is a text file of some 130 bytes. Every reader of a file that may be large asks here
first, so that one sentence says what is wrong, whatever kind of file it should have been.
"""

from pathlib import Path

from pi0_jax.errors import InputError

_START = b"version https://git-lfs.github.com/spec/"
# The format's own limit, in bytes.
_MAX_SIZE = 1024


def is_pointer(path: Path) -> bool:
    """Whether a file is a git-lfs pointer; False for a path that is no file."""
    if not path.is_file() or path.stat().st_size >= _MAX_SIZE:
        return False
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def refuse_pointer(path: Path) -> None:
    """Checks that a file is no git-lfs pointer.

    Raises:
        InputError: it is one.
    """
    if is_pointer(path):
        raise InputError(f"{path}: a git-lfs pointer, not the file; run `git lfs pull` there")
