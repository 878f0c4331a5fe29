"""JSON files that another program or a person wrote: a value, or one sentence about the file."""

import json
from pathlib import Path
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.plain_file import read_bytes

_MOST_DIGITS = 20  # of a whole number, with its sign; reading thousands of them takes minutes
_MOST = 2**63  # whole numbers beyond it, either way, fit into no array


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, by its names.

    Raises:
        FileNotFoundError: no such file; the caller knows what it would have been for.
        InputError: no object, or as `read_value`.
    """
    values = read_value(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object {{...}}, got {values!r:.40}")
    return values


def read_value(path: Path) -> Any:
    """What stands in a JSON file.

    Raises:
        FileNotFoundError: no such file; the caller knows what it would have been for.
        InputError: a folder, a pipe, a git-lfs pointer, too long, or no JSON in UTF-8 (`parse`).
    """
    content = read_bytes(path)
    try:
        return parse(content.decode())
    except ValueError as error:
        raise InputError(f"{path}: expected JSON: {error}") from error


def parse(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: no JSON, nested too deeply, a number that fits into no array, or a name twice,
            of which Python would keep the last.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names all differ.

    Raises:
        ValueError: a name is there twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS or not -_MOST <= (number := int(text)) < _MOST:
        raise ValueError(f"the number {text[:_MOST_DIGITS]}... is too large")
    return number
