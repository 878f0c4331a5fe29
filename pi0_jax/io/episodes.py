"""Episodes on disk: one compressed .npz per file, whole or refused, and never unpickled.

Files of format 2 are read too: they are the same without the chains.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.io.atomic import atomic_file
from pi0_jax.io.zip_digest import add_digest, is_whole
from pi0_jax.json_file import parse
from pi0_jax.npz_file import read_arrays
from pi0_jax.robot import robot_from_dict

FORMAT_VERSION = 3
_READ = (2, FORMAT_VERSION)

VISIBLE = "[!.]*.npz"
"""Pattern of the files of a folder; hidden ones are of desktops and copying programs."""

_RAGGED = ("images", "image_steps", "state", "actions", "chunk_start")
_CHAINS = ("chain", "chain_log_prob")
_SCALARS = tuple(f.name for f in fields(Episode) if f.name not in (*_RAGGED, *_CHAINS, "robot"))
_EXPECTED = "an episode file (.npz)"


def save_episodes(path: Path, episodes: Sequence[Episode], of: str = "") -> None:
    """Writes episodes into one compressed .npz: fields of different lengths end to end.

    The file appears under its name only when it is whole. An empty sequence is allowed.

    Args:
        path: file to write.
        episodes: in the order in which `load_episodes` gives them back.
        of: what they are the episodes of, for whoever reads them; "" for nothing in particular.
    """
    # A file object, because NumPy would append .npz to the name of an unfinished file.
    with atomic_file(path) as partial:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **_arrays(episodes), of=np.array(of))
        add_digest(partial)


def load_episodes(path: Path, of: str = "") -> list[Episode]:
    """Reads what `save_episodes` wrote; nothing is unpickled.

    Args:
        path: the file.
        of: what they must be the episodes of, if the file says that at all; "" for anything.

    Raises:
        InputError: the file is missing, is not such a file, has another format version, or holds
            the episodes of something else.
    """
    arrays = read_arrays(path, _EXPECTED)
    # Members have digests of their own; this finds what was changed between them.
    if not is_whole(path):
        raise InputError(f"{path}: expected {_EXPECTED}, got one that is damaged; restore it")
    if of and (other := str(arrays.get("of", ""))) not in ("", of):
        raise InputError(f"{path}: expected the episodes of {of}, got those of {other}")
    try:
        if (version := int(arrays["format_version"])) in _READ:
            return _episodes(arrays, version)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: expected {_EXPECTED}, got: {error!r}") from error
    raise InputError(f"{path}: expected episode format {FORMAT_VERSION}, got {version}")


def episodes_to_bytes(episodes: Sequence[Episode]) -> bytes:
    """Episodes as another process of the same run reads them by `episodes_from_bytes`."""
    # Not compressed: that takes longer than sending pictures.
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=False, **_arrays(episodes))
        return file.getvalue()


def episodes_from_bytes(data: bytes) -> list[Episode]:
    """What `episodes_to_bytes` wrote; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return _episodes(dict(arrays), FORMAT_VERSION)


def _arrays(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    arrays = {"format_version": np.array(FORMAT_VERSION)}
    for name in _SCALARS:
        values = [getattr(episode, name) for episode in episodes]
        # NumPy has no null string: an empty one means "no error".
        arrays[name] = np.array(["" if value is None else value for value in values])
    arrays["robot"] = np.array([json.dumps(asdict(episode.robot)) for episode in episodes])
    for name in (*_RAGGED, *_CHAINS):
        # A chain that is not there is one of no policy call.
        parts = [getattr(episode, name) for episode in episodes]
        parts = [np.zeros(0, np.float32) if part is None else part for part in parts]
        # n episodes of lengths t_i -> int64 [n] and one array [sum t_i, ...]
        arrays[f"{name}_length"] = np.array([len(part) for part in parts], np.int64)
        # Of an episode that never began, or has no chain, the other axes are not known.
        whole = [part for part in parts if len(part)] or parts
        arrays[name] = np.concatenate(whole) if whole else np.zeros(0)
    return arrays


def _episodes(arrays: dict[str, np.ndarray], version: int) -> list[Episode]:
    names = _RAGGED if version < FORMAT_VERSION else (*_RAGGED, *_CHAINS)
    parts = {name: _split(arrays[name], arrays[f"{name}_length"]) for name in names}
    return [_episode(arrays, parts, index) for index in range(len(arrays["seed"]))]


def _split(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(array, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _episode(
    arrays: dict[str, np.ndarray], parts: dict[str, list[np.ndarray]], index: int
) -> Episode:
    values: dict[str, Any] = {name: arrays[name][index].item() for name in _SCALARS}
    values |= {name: parts[name][index] for name in _RAGGED}
    # They stay None where the file is of format 2, or this episode has no call.
    chains = {name: parts[name][index] for name in _CHAINS if name in parts}
    values |= {name: chain for name, chain in chains.items() if len(chain)}
    values["error"] = values["error"] or None
    values["robot"] = robot_from_dict(parse(arrays["robot"][index].item()))
    return Episode(**values)
