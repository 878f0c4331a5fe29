"""One picture out of a parquet file, without unpacking the row group in which it lies.

A row group of lerobot's is an episode: 10 to 40 MB of pictures in one page. Here the page is walked
once, so that the place of every picture is known; then a picture is a read of its own bytes. What
is laid out otherwise (nulls, pages of version 2, codecs other than snappy) is left to pyarrow.

The format: https://parquet.apache.org/docs/file-format/
"""

import mmap
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.data.lerobot.snappy_blocks import Get, SnappyBlocks, UnusualError, find_blocks
from pi0_jax.data.lerobot.tables import pyarrow
from pi0_jax.data.lerobot.thrift import read_struct

_DATA, _DICTIONARY = 0, 2  # kinds of pages
_PLAIN, _BY_NUMBER = 0, (2, 8)  # encodings of values: themselves, or their places in a dictionary
# Bytes that hold any header of a page: the smallest and the largest value, twice, of up to 4 KB.
_HEADER = 20_000


@dataclass(frozen=True)
class _Page:
    """A page's unpacked bytes: as they stand in the file from `start` on, or in blocks."""

    start: int
    blocks: SnappyBlocks | None
    length: int

    def read(self, get: Get, start: int, count: int) -> bytes:
        """Bytes of the unpacked page.

        Raises:
            UnusualError: they are not all there.
        """
        if self.blocks is not None:
            return self.blocks.read(get, start, count)
        if start < 0 or start + count > self.length:
            raise UnusualError(f"{start} + {count} of {self.length} bytes")
        return get(self.start + start, count)


@dataclass(frozen=True)
class _Places:
    """Where the values of a row group lie, in 24 bytes each.

    Attributes:
        pages: the pages of the row group.
        where: int64[row, 3]: number of the page, and start and count in its unpacked bytes.
    """

    pages: tuple[_Page, ...]
    where: np.ndarray

    def read(self, get: Get, row: int) -> bytes:
        """The value of a row of the group."""
        number, start, count = self.where[row].tolist()
        return self.pages[number].read(get, start, count)


@dataclass(frozen=True)
class _Chunk:
    """The pages of one row group: rows, bytes of the file, and how they are packed."""

    rows: int
    start: int
    size: int
    codec: str


@dataclass(frozen=True)
class _Layout:
    """What the end of a file says of a column.

    Attributes:
        ends: int64[group]: the row behind each row group.
        chunks: per row group; None where the column is none that is walked here.
        levels: the definition level of a value that is there.
    """

    ends: np.ndarray
    chunks: tuple[_Chunk, ...] | None
    levels: int


@dataclass
class ImageColumn:
    """The encoded pictures of one column of a parquet file. Several threads may read at once.

    Attributes:
        path: the parquet file.
        column: name of the column; its format is Hugging Face's, {"bytes", "path"}.
    """

    path: Path
    column: str
    _groups: dict[int, _Places | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _layout: _Layout | None = None

    def read(self, row: int) -> bytes:
        """The bytes of the picture in a row of the file.

        Raises:
            OSError, ValueError, LookupError, TypeError, ArrowException: there is none.
        """
        group, row_in_group = self._group_of(row)
        places = self._places(group)
        if places is None:
            return self._by_pyarrow(group, row_in_group)
        file = os.open(self.path, os.O_RDONLY)
        try:
            # A file per picture: many files are open in none, and threads share nothing.
            return places.read(lambda start, count: os.pread(file, count, start), row_in_group)
        finally:
            os.close(file)

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group of a row, and the row in it."""
        ends = self._read_layout().ends
        group = int(np.searchsorted(ends, row, side="right"))
        return group, row - int(ends[group - 1] if group else 0)

    def _read_layout(self) -> _Layout:
        """The file's own description, read once: it has megabytes where row groups are many."""
        if self._layout is None:
            with self._lock:
                self._layout = self._layout or _layout(self.path, f"{self.column}.bytes")
        return self._layout

    def _places(self, group: int) -> _Places | None:
        """Where the pictures of a row group lie; None where pyarrow must say it."""
        layout = self._read_layout()
        if group not in self._groups:
            # One thread walks; others that need the same row group wait for it.
            with self._lock:
                if group not in self._groups:
                    self._groups[group] = _find(self.path, layout, group)
        return self._groups[group]

    def _by_pyarrow(self, group: int, row: int) -> bytes:
        _, parquet = pyarrow()
        with parquet.ParquetFile(self.path, memory_map=True) as file:
            table = file.read_row_group(group, columns=[f"{self.column}.bytes"])
        return table.column(0)[row].as_py()["bytes"]


def _layout(path: Path, column: str) -> _Layout:
    _, parquet = pyarrow()
    with parquet.ParquetFile(path) as file:
        meta, schema = file.metadata, file.schema
        groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
        ends = np.cumsum([group.num_rows for group in groups])
        columns = [schema.column(number) for number in range(meta.num_columns)]
        which = [number for number, one in enumerate(columns) if one.path == column]
        if not which or columns[which[0]].max_repetition_level:
            return _Layout(ends, None, 0)
        chunks = tuple(_chunk(group.num_rows, group.column(which[0])) for group in groups)
        return _Layout(ends, chunks, columns[which[0]].max_definition_level)


def _chunk(rows: int, chunk: Any) -> _Chunk:
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return _Chunk(rows, start, chunk.total_compressed_size, chunk.compression)


def _find(path: Path, layout: _Layout, group: int) -> _Places | None:
    if layout.chunks is None:
        return None
    chunk = layout.chunks[group]
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        try:
            places = _walk(lambda at, count: data[at : at + count], chunk, layout.levels)
        except (ValueError, IndexError):
            return None
    return places if len(places.where) == chunk.rows else None


def _walk(get: Get, chunk: _Chunk, levels: int) -> _Places:
    """The places of all values of a column of one row group."""
    at, end = chunk.start, chunk.start + chunk.size
    dictionary = np.zeros((0, 3), np.int64)
    pages: list[_Page] = []
    parts: list[np.ndarray] = []
    while at < end:
        header, size = read_struct(get(at, _HEADER))
        at, kind, length = at + size, header[1], header[2]
        page = _page(get, at, header[3], length, chunk.codec)
        if kind == _DICTIONARY:
            dictionary = _plain(get, page, 0, header[7][1], len(pages))
        elif kind == _DATA:
            parts.append(_data(get, page, header[5], levels, dictionary, len(pages)))
        else:
            raise UnusualError(f"a page of kind {kind}")
        pages.append(page)
        at += header[3]
    return _Places(tuple(pages), np.concatenate(parts))


def _page(get: Get, at: int, packed: int, length: int, codec: str) -> _Page:
    if codec == "UNCOMPRESSED":
        return _Page(at, None, length)
    if codec != "SNAPPY":
        raise UnusualError(codec)
    return _Page(at, find_blocks(get, at, at + packed), length)


def _data(
    get: Get,
    page: _Page,
    header: dict[int, Any],
    levels: int,
    dictionary: np.ndarray,
    number: int,
) -> np.ndarray:
    """The places of the values of a data page of version 1, int64[value, 3]."""
    count, at = header[1], 0
    if levels:
        size = int.from_bytes(page.read(get, 0, 4), "little")
        found = _hybrid(page.read(get, 4, size), levels.bit_length(), count)
        if (found != levels).any():
            raise UnusualError("a value is missing")
        at = 4 + size
    if header[2] == _PLAIN:
        return _plain(get, page, at, count, number)
    if header[2] not in _BY_NUMBER:
        raise UnusualError(f"encoding {header[2]}")
    packed = page.read(get, at, page.length - at)
    return dictionary[_hybrid(packed[1:], packed[0], count)]


def _plain(get: Get, page: _Page, at: int, count: int, number: int) -> np.ndarray:
    """Values one after the other, each behind its length in four bytes: int64[value, 3]."""
    places = []
    for _ in range(count):
        size = int.from_bytes(page.read(get, at, 4), "little")
        places.append((number, at + 4, size))
        at += 4 + size
    if at > page.length:
        raise UnusualError("values go on behind the page")
    return np.array(places, np.int64).reshape(-1, 3)


def _hybrid(data: bytes, width: int, count: int) -> np.ndarray:
    """Whole numbers int64[count] of `width` bits: runs of one number, or of eight packed ones."""
    if not 0 < width <= 32:
        raise UnusualError(f"numbers of {width} bits")
    parts, found, at, whole = [], 0, 0, (width + 7) // 8
    while found < count:
        head = shift = 0
        while True:
            head |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                break
        if head & 1:
            size = (head >> 1) * width
            bits = np.unpackbits(np.frombuffer(data[at : at + size], np.uint8), bitorder="little")
            weights = 1 << np.arange(width, dtype=np.int64)
            part, at = bits.reshape(-1, width) @ weights, at + size
        else:
            value = int.from_bytes(data[at : at + whole], "little")
            part, at = np.full(min(head >> 1, count), value), at + whole
        if not len(part):
            raise UnusualError("a run of nothing")
        parts.append(part)
        found += len(part)
    return np.concatenate(parts)[:count] if parts else np.zeros(0, np.int64)
