"""Messages of openpi's websocket protocol as bytes: msgpack with NumPy arrays, never a pickle.

An array is a map with byte keys: b"__ndarray__": True, b"data": its bytes in C order, b"dtype":
such as "<f4", b"shape": a list. A scalar of NumPy is a map of b"__npgeneric__": True, b"data" and
b"dtype".
"""

import math
import re
from typing import Any

import msgpack
import numpy as np

from pi0_jax.errors import InputError

_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_TEXT = re.compile(r"[<>|=]?U\d{1,6}")
# A few bytes can ask for many objects: an empty list is one byte of a message, and 56 of memory.
_MOST_CONTAINERS = 1000
_LONGEST_LIST = 65536
_LONGEST_TEXT = 65536  # bytes
_MOST_AXES = 8
_LONGEST_NAME = 20  # letters of a dtype in a message


def pack(value: Any) -> bytes:
    """Plain values and NumPy arrays as one message.

    Raises:
        TypeError: a value of another type, or an array that is not of numbers or text.
    """
    message = msgpack.packb(value, default=_as_map)
    assert message is not None  # only a packer that collects returns none
    return message


def unpack(message: bytes) -> Any:
    """Inverse of `pack`, for messages of anybody.

    Args:
        message: at most as long as the transport lets through; what is made of it takes no more
            than a small multiple of that.

    Returns:
        Plain values. Arrays are read-only views of the message; an array of one text is a str.

    Raises:
        InputError: it is not msgpack, is cut off, holds an extension type or a dtype that is not of
            numbers or text, an array's bytes do not fill its shape, or it has too many parts.
    """
    parts = _Parts()
    try:
        return msgpack.unpackb(
            message,
            object_hook=parts.read_map,
            list_hook=parts.read_list,
            max_array_len=_LONGEST_LIST,
            max_map_len=_MOST_CONTAINERS,
            max_str_len=_LONGEST_TEXT,
            max_ext_len=0,
        )
    except InputError:
        raise
    # All that the library raises for bytes that it cannot read.
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise InputError(
            f"expected one msgpack message, got {len(message)} bytes that are none ({error}); "
            "pack it as openpi_client.msgpack_numpy does"
        ) from error


class _Parts:
    """Turns maps that stand for arrays into arrays, and counts what a message holds."""

    def __init__(self) -> None:
        self._count = 0

    def read_map(self, found: dict[Any, Any]) -> Any:
        """A map as the message has it, or the array or scalar that it stands for."""
        self._add()
        if _ARRAY in found:
            return _array(found)
        return _scalar(found) if _SCALAR in found else found

    def read_list(self, found: list[Any]) -> list[Any]:
        """A list as the message has it."""
        self._add()
        return found

    def _add(self) -> None:
        self._count += 1
        if self._count > _MOST_CONTAINERS:
            raise InputError(f"expected at most {_MOST_CONTAINERS} lists and maps in a message")


def _as_map(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"expected plain values and NumPy arrays, got {type(value).__name__}")
    if value.dtype.kind not in "biufU":
        raise TypeError(f"expected an array of numbers or text, got {value.dtype}")
    if isinstance(value, np.generic):
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    shape = list(value.shape)
    return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": shape}


def _array(found: dict[Any, Any]) -> np.ndarray | str:
    """The array of a map; of an array that holds one text, the text."""
    dtype, shape, data = _dtype(found), _shape(found), found.get(b"data")
    wanted = math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != wanted:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise InputError(f"expected {wanted} bytes for an array {dtype}{shape}, got {got}")
    array = np.ndarray(tuple(shape), dtype, buffer=data)
    if dtype.kind != "U":
        return array
    if array.size != 1:
        raise InputError(f"expected one text, got an array of texts {shape}")
    return str(array.item())


def _scalar(found: dict[Any, Any]) -> Any:
    """The plain value of a NumPy scalar."""
    _dtype(found)
    if not isinstance(value := found.get(b"data"), bool | int | float | str):
        raise InputError(
            f"expected a number or a text as a NumPy scalar, got {type(value).__name__}"
        )
    return value


def _shape(found: dict[Any, Any]) -> list[int]:
    shape = found.get(b"shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise InputError("expected the shape of an array as a list of sizes")
    if len(shape) > _MOST_AXES:
        raise InputError(f"expected an array of at most {_MOST_AXES} axes, got {len(shape)}")
    return shape


def _dtype(found: dict[Any, Any]) -> np.dtype:
    name = found.get(b"dtype")
    if not isinstance(name, str) or not (_NUMBERS.fullmatch(name) or _TEXT.fullmatch(name)):
        got = repr(name)[:_LONGEST_NAME]
        raise InputError(f"expected an array of numbers such as '<f4' or '|u1', got {got}")
    return np.dtype(name)
