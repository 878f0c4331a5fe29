"""safetensors files, tensor by tensor: eight bytes of length, a JSON header, then plain bytes.

The library maps whole files into memory and writes whole dicts. Here one tensor at a time is in
memory, so a checkpoint may be larger than it.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import ml_dtypes
import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.json_file import parse
from pi0_jax.plain_file import check_file

DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype.name: code for code, dtype in DTYPES.items()}
# The format's own limit, in bytes.
_MAX_HEADER = 100 * 2**20


class Entry(NamedTuple):
    """Where a tensor lies.

    Attributes:
        file: the file.
        offset: bytes from the start of the file.
        dtype: dtype of its values.
        shape: its shape; values are in C order.
    """

    file: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


class SafetensorsFile:
    """One file, opened for reading; only its header is read.

    Attributes:
        entries: key to the place of its tensor.
        metadata: strings that the writer put into the header.
    """

    def __init__(self, path: Path):
        """Reads and checks the header.

        Raises:
            InputError: no safetensors file, or a truncated one.
        """
        check_file(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            # Length of the header, a little-endian 64-bit integer. A file that is too short for
            # it gets a length that the check below refuses.
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER + 1
            if length > min(_MAX_HEADER, size - 8):
                raise InputError(f"{path}: truncated or no safetensors file ({size} bytes)")
            raw = file.read(length)
        try:
            header = parse(raw)
            self.metadata: dict[str, str] = _texts(header.pop("__metadata__", {}))
            self.entries = {key: _entry(path, 8 + length, value) for key, value in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged safetensors header: {error}") from error
        _check_places(path, 8 + length, size, list(self.entries.values()))


def _check_places(path: Path, start: int, size: int, entries: list[Entry]) -> None:
    """Checks that tensors lie one behind another up to the end of the file, as the format asks.

    Raises:
        InputError: two overlap, or bytes between or behind them belong to none, or are missing.
    """
    end = max((e.offset + _nbytes(e) for e in entries), default=start)
    if size < end:
        raise InputError(_other_size(path, "truncated", end, size))
    for entry in sorted(entries, key=lambda e: (e.offset, _nbytes(e))):
        if entry.offset != start:
            raise InputError(
                f"{path}: damaged safetensors header: its tensors overlap or leave a gap at byte "
                f"{start}; fetch it again"
            )
        start += _nbytes(entry)
    # A digest would read whatever follows, and nobody else.
    if size > end:
        raise InputError(_other_size(path, "too long", end, size))


def _other_size(path: Path, what: str, end: int, size: int) -> str:
    return f"{path}: {what}: its header promises {end} bytes, the file has {size}; fetch it again"


def read(entry: Entry) -> np.ndarray:
    """The values of one tensor."""
    with entry.file.open("rb") as file:
        file.seek(entry.offset)
        count = int(np.prod(entry.shape, dtype=np.int64))
        return np.fromfile(file, entry.dtype, count).reshape(entry.shape)


class SafetensorsWriter:
    """Writes one file tensor by tensor, in the order announced.

    Example:
        with SafetensorsWriter(path, {"a": ("float32", (2, 3))}, {}) as writer:
            writer.write("a", values)
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[str, tuple[int, ...]]],
        metadata: Mapping[str, str],
    ):
        """Writes the header.

        Args:
            path: file to make.
            tensors: key to dtype name and shape, in the order in which they will come.
            metadata: strings for the header; transformers wants "format".
        """
        header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
        end = 0
        for key, (dtype, shape) in tensors.items():
            code = _CODES[dtype]
            start, end = end, end + int(np.prod(shape)) * DTYPES[code].itemsize
            header[key] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
        raw = json.dumps(header).encode()
        # Spaces after the JSON align the data to eight bytes, as the format asks.
        raw += b" " * (-len(raw) % 8)
        self._expected = iter(tensors.items())
        self._file = path.open("wb")
        self._file.write(struct.pack("<Q", len(raw)) + raw)

    def write(self, key: str, values: np.ndarray) -> None:
        """Appends the next tensor.

        Raises:
            ValueError: another tensor than the next one of the header.
        """
        name, (dtype, shape) = next(self._expected)
        if (key, values.dtype.name, values.shape) != (name, dtype, shape):
            raise ValueError(f"expected {name} {dtype}{shape}, got {key} {values.shape}")
        np.ascontiguousarray(values).tofile(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()


def write_small(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file of tensors that fit in memory."""
    announced = {key: (x.dtype.name, x.shape) for key, x in tensors.items()}
    with SafetensorsWriter(path, announced, {}) as writer:
        for key, values in tensors.items():
            writer.write(key, values)


def open_all(paths: Iterable[Path]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries and metadata of several shards, merged.

    Raises:
        InputError: a key in two shards, or a file that cannot be read.
    """
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        shard = SafetensorsFile(path)
        twice = sorted(entries.keys() & shard.entries.keys())
        if twice:
            raise InputError(f"{path}: keys are in another shard too: {', '.join(twice)}")
        entries |= shard.entries
        metadata |= shard.metadata
    return entries, metadata


def _entry(path: Path, base: int, value: dict[str, Any]) -> Entry:
    # Offsets in the header count from its end.
    start, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape {list(shape)}")
    entry = Entry(path, base + start, DTYPES[value["dtype"]], shape)
    if end - start != _nbytes(entry):
        raise ValueError(f"{end - start} bytes do not hold {value['dtype']} {value['shape']}")
    return entry


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"__metadata__ {wrong[0]} is no text")
    return dict(metadata)


def _nbytes(entry: Entry) -> int:
    # In whole numbers of any size: a header may declare more than 64 bits count.
    return math.prod(entry.shape) * entry.dtype.itemsize
