"""A digest at the end of a zip archive, such as an episode file: damage is found before it is read.

The members of an archive have digests of their own, its headers have none. The digest stands in the
archive's comment, which every program that reads archives passes over.
"""

import os
import struct
from pathlib import Path

from pi0_jax.io.digests import crc32

# The record that ends an archive: 22 bytes, of which the last two are the length of the comment.
_END, _END_BYTES = b"PK\x05\x06", 22
_MARK = b"pi0_jax crc32 "
_COMMENT_BYTES = len(_MARK) + 8


def add_digest(path: Path) -> None:
    """Appends the digest to an archive that was just written, and has no comment."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _COMMENT_BYTES))
    digest = crc32(path)
    with path.open("ab") as file:
        file.write(_MARK + digest.encode())


def is_whole(path: Path) -> bool:
    """Whether a file ends with the digest of its bytes, or is an archive of an earlier version.

    Raises:
        OSError: it cannot be read.
    """
    # Without a comment; no one bit makes this of an archive that has one.
    if _tail(path)[-_END_BYTES:].startswith(_END):
        return True
    digest = digest_of(path)
    return bool(digest) and crc32(path, path.stat().st_size - _COMMENT_BYTES) == digest


def digest_of(path: Path) -> str:
    """The digest that stands at the end of an archive, "" where none does; the rest is not read.

    Raises:
        OSError: it cannot be read.
    """
    tail = _tail(path)
    return tail[len(_MARK) :].decode("latin-1") if tail.startswith(_MARK) else ""


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _COMMENT_BYTES))
        return file.read()
