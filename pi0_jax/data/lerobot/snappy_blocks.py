"""Random access into a page of parquet that is packed with snappy, without unpacking the page.

Snappy packs every 64 KB by itself, and leaves pictures, which are packed already, nearly as they
are: long literal runs. So one walk over the tags, which takes half a millisecond for 40 MB, finds
where each block begins; a picture then costs the few blocks in which it lies.

The format: https://github.com/google/snappy/blob/main/format_description.txt
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Get = Callable[[int, int], bytes]
"""`get(start, count)`: bytes of the file."""

_BLOCK = 65_536  # unpacked bytes of a block
_LITERAL = 0
_LONG = 60  # length codes above it say how many bytes the length has
_MOST_TAGS = 200_000  # of a page; more are data that snappy could pack, and no pictures


class UnusualError(ValueError):
    """A page that is laid out otherwise than expected here; pyarrow reads it."""


@dataclass(frozen=True)
class SnappyBlocks:
    """Where the blocks of a packed page begin.

    Attributes:
        starts: int64[block + 1], places in the file; the last is the end of the page.
        length: unpacked bytes of the page.
    """

    starts: np.ndarray
    length: int

    def read(self, get: Get, start: int, count: int) -> bytes:
        """Bytes `start` to `start + count` of the unpacked page.

        Raises:
            UnusualError: they are not all there, or a block refers to an earlier one.
        """
        if start < 0 or start + count > self.length:
            raise UnusualError(f"{start} + {count} of {self.length} bytes")
        if not count:
            return b""
        first, last = start // _BLOCK, (start + count - 1) // _BLOCK
        parts = [self._block(get, block) for block in range(first, last + 1)]
        skipped = start - first * _BLOCK
        return b"".join(parts)[skipped : skipped + count]

    def _block(self, get: Get, block: int) -> bytes:
        start, end = int(self.starts[block]), int(self.starts[block + 1])
        return _unpacked(get(start, end - start), min(_BLOCK, self.length - block * _BLOCK))


def find_blocks(get: Get, start: int, end: int) -> SnappyBlocks:
    """Walks over the tags of a packed page.

    Args:
        get: reads the file.
        start: where the page begins in the file.
        end: where it ends.

    Raises:
        UnusualError: it is damaged, its blocks have another size, or it has very many tags.
    """
    length, at = _varint(get, start)
    starts, out = [], 0
    for _ in range(_MOST_TAGS):
        if out % _BLOCK == 0:
            starts.append(at)
        if at >= end:
            break
        kind, size, body = _tag(get(at, 5))
        if out // _BLOCK != (out + size - 1) // _BLOCK:
            raise UnusualError("an element lies in two blocks")
        at, out = at + body + size * (kind == _LITERAL), out + size
    if at != end or out != length:
        raise UnusualError("the page does not end where it should")
    # Of a last block that is not full, the end is not there yet.
    return SnappyBlocks(np.array(starts if out % _BLOCK == 0 else [*starts, end]), length)


def _unpacked(packed: bytes, length: int) -> bytes:
    """One block of `length` bytes."""
    out, at = bytearray(), 0
    while at < len(packed):
        head = packed[at : at + 5]
        kind, size, body = _tag(head)
        at += body
        if kind == _LITERAL:
            out += packed[at : at + size]
            at += size
            continue
        back = _offset(kind, head)
        if not 0 < back <= len(out):
            raise UnusualError("a block refers to an earlier one")
        for _ in range(size):  # may overlap with what it writes
            out.append(out[-back])
    if len(out) != length:
        raise UnusualError(f"a block of {len(out)} bytes, expected {length}")
    return bytes(out)


def _tag(head: bytes) -> tuple[int, int, int]:
    """Kind of an element, unpacked bytes, and bytes of the tag with lengths and offsets.

    Args:
        head: the element's first five bytes, or as many as there are.
    """
    kind, code = head[0] & 3, head[0] >> 2
    if kind == _LITERAL:
        extra = max(0, code + 1 - _LONG)
        size = code if not extra else int.from_bytes(head[1 : 1 + extra], "little")
        return kind, size + 1, 1 + extra
    if kind == 1:
        return kind, (code & 7) + 4, 2
    return kind, code + 1, 3 if kind == 2 else 5


def _offset(kind: int, head: bytes) -> int:
    """How far back a copy begins."""
    if kind == 1:
        return (head[0] >> 5) << 8 | head[1]
    return int.from_bytes(head[1 : 3 if kind == 2 else 5], "little")


def _varint(get: Get, at: int) -> tuple[int, int]:
    """The unpacked length at the page's start, and where the first tag is."""
    value = 0
    for index, byte in enumerate(get(at, 5)):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise UnusualError("the page does not begin with its length")
