"""JSON files that another program or a person wrote: one object, or one sentence about the file."""

import json
from pathlib import Path
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.plain_file import check_file

# Far above every index of shards; a bomb would fill the memory.
_MOST_BYTES = 2**28
_MOST_DIGITS = 18  # of a whole number; those that fit into 64 bits are never longer


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, by its names.

    Raises:
        FileNotFoundError: no such file; the caller knows what it would have been for.
        InputError: a folder, a pipe, a git-lfs pointer, too long, no JSON, no object, nested too
            deeply, or a name twice, of which Python would keep the last.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a JSON file, found a folder")
    check_file(path, _MOST_BYTES)
    try:
        values = json.loads(path.read_text(), object_pairs_hook=once, parse_int=_whole)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply to be a file of a checkpoint") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object {{...}}, got {values!r:.40}")
    return values


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {text[:_MOST_DIGITS]}... is too large")
    return int(text)
