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
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _COMMENT_BYTES))
        tail = file.read()
    # Without a comment; no one bit makes this of an archive that has one.
    if tail[-_END_BYTES:].startswith(_END):
        return True
    mark, digest = tail[: len(_MARK)], tail[len(_MARK) :].decode("latin-1")
    return mark == _MARK and crc32(path, size - _COMMENT_BYTES) == digest
