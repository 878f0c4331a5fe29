"""Reads structs in thrift's compact protocol, in which parquet writes the header of a page.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_WHOLE = (4, 5, 6)
_LISTS = (9, 10)
_DEEPEST = 8  # structs in structs; a page's header has three


def read_struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and where it ends.

    Lists, doubles and bytes are passed over: their value is None.

    Raises:
        ValueError: it is none, or too deep.
        IndexError: it goes on behind the data.
    """
    if depth > _DEEPEST:
        raise ValueError("structs in structs without end")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            code, at = _varint(data, at)
            number = _signed(code)
        fields[number], at = _value(data, at, head & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in _WHOLE:
        code, at = _varint(data, at)
        return _signed(code), at
    if kind == _STRUCT:
        return read_struct(data, at, depth + 1)
    if kind == _BYTE:
        return data[at], at + 1
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return None, at + size
    if kind in _LISTS:
        size, inner = data[at] >> 4, data[at] & 15
        at += 1
        if size == 15:
            size, at = _varint(data, at)
        for _ in range(min(size, len(data))):
            _, at = _value(data, at, inner, depth + 1)
        return None, at
    raise ValueError(f"no kind of thrift's: {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number without end")


def _signed(code: int) -> int:
    return (code >> 1) ^ -(code & 1)
