"""NumPy archives (.npz) on disk: plain arrays, or one sentence about the file. Never unpickled."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.plain_file import check_file

# What zipfile, its decompressors and NumPy raise on files that are cut, damaged or of another
# kind. Every flipped bit of a small archive was tried: a flag that says "encrypted" is a
# RuntimeError, a bracket of an array's header that is no longer closed a TokenError.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(ArithmeticError, MemoryError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


def read_arrays(path: Path, expected: str) -> dict[str, np.ndarray]:
    """All arrays of an archive by name, in memory.

    Args:
        path: the file.
        expected: what it should be, for the message, such as "an episode file (.npz)".

    Raises:
        InputError: no such file, a git-lfs pointer, or anything but an archive of plain arrays.
    """
    check_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except _UNREADABLE as error:
        raise InputError(f"{path}: expected {expected}, got: {error!r}") from error
    # NumPy gives the bytes of a member that is no array.
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise InputError(f"{path}: expected {expected}, got: {others[0]!r}, which is no array")
    return arrays
