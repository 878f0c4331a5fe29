"""The door for files that others wrote: plain, of a size that makes sense, no git-lfs pointer.

A pointer is a text file of some 130 bytes, which a clone without git-lfs has in place of a large
file. A pipe would be waited for for ever. Every reader asks here first, so that one sentence says
what is wrong, whatever kind of file it should have been.
"""

from pathlib import Path

from pi0_jax.errors import InputError

_START = b"version https://git-lfs.github.com/spec/"
# The format's own limit, in bytes.
_MAX_SIZE = 1024

MOST_BYTES = 2**28
"""Far above every file of settings and every index of shards; a longer one would fill the memory"""


def is_pointer(path: Path) -> bool:
    """Whether a file is a git-lfs pointer; False for a path that is no file."""
    if not path.is_file() or path.stat().st_size >= _MAX_SIZE:
        return False
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def check_file(path: Path, most_bytes: int | None = None) -> None:
    """Checks that a file can be read; one that is not there is its reader's matter.

    Args:
        path: the file.
        most_bytes: longest that makes sense; None for any.

    Raises:
        InputError: it is a pipe, a socket or a device, a git-lfs pointer, or longer.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: expected a plain file, got a pipe, a socket or a device")
    if is_pointer(path):
        raise InputError(f"{path}: a git-lfs pointer, not the file; run `git lfs pull` there")
    if most_bytes is not None and path.is_file() and path.stat().st_size > most_bytes:
        raise InputError(
            f"{path}: expected at most {most_bytes:,} bytes, got {path.stat().st_size:,}"
        )


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a file that is read whole.

    Raises:
        FileNotFoundError: no such file; the caller knows what it would have been for.
        InputError: a folder, or as `check_file`.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    check_file(path, most_bytes)
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The content of a text file that is read whole.

    Raises:
        FileNotFoundError, InputError: as `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8: {error}") from error
