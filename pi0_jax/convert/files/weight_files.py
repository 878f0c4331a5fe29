"""Which files of a folder hold the weights. One complete set of them, or an error that names all.

A set is one file, the shards that an index lists, or shards that are complete by their names.
Which of two sets a library loads depends on the library, so the user has to say it.
"""

import re
from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from pi0_jax.convert.files.known_files import ADAPTER_FILES, HIDDEN, may_hold_weights
from pi0_jax.errors import InputError, some
from pi0_jax.json_file import read_object

_INDEX = ".index.json"
_NAMED = 3
# model-00002-of-00003.safetensors
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)")


class WeightSet(NamedTuple):
    """Files that together hold weights.

    Attributes:
        name: the file to give as SRC for this set.
        files: those that are there, in order.
        missing: names of shards that are not there.
        keys: names of the tensors, where an index lists them.
    """

    name: Path
    files: list[Path]
    missing: list[str]
    keys: tuple[str, ...] = ()


def is_checkpoint(folder: Path) -> bool:
    """Whether weights or an adapter lie in a folder itself."""
    return bool(weight_sets(folder)) or any((folder / name).is_file() for name in ADAPTER_FILES)


def weight_set(path: Path) -> WeightSet:
    """The one complete set of weights.

    Args:
        path: a folder with one set, an index, a shard, or a file.

    Raises:
        InputError: several sets, or a missing shard.
    """
    if path.is_dir():
        return _only(weight_sets(path), path)
    if path.name.endswith(_INDEX):
        return _only([_indexed(path)], path)
    if match := _SHARD.fullmatch(path.name):
        beside = [child.name for child in path.parent.iterdir()]
        return _only([_numbered(path.parent, match["stem"], match, beside)], path)
    return WeightSet(path, [path], [])


def beside_pattern(name: str) -> str:
    """Pattern for the names of all shards that a shard or an index belongs to; else the name."""
    if name.endswith(_INDEX):
        stem, dot, suffix = name.removesuffix(_INDEX).rpartition(".")
        return f"{stem}-*{dot}{suffix}"
    if match := _SHARD.fullmatch(name):
        return f"{match['stem']}-*-of-{match['count']}{match['suffix']}"
    return name


def check_listed(weights: WeightSet, tensors: Container[str]) -> None:
    """Checks that every tensor that an index lists is there, such as those of a last layer.

    Raises:
        InputError: one is not.
    """
    if gone := [key for key in weights.keys if key not in tensors]:
        raise InputError(
            f"{weights.name}: it lists tensors that no shard holds: {some(gone, _NAMED)}; fetch "
            "the checkpoint again"
        )


def _is_index(name: str) -> bool:
    return name.endswith(_INDEX) and not name.startswith(HIDDEN)


def weight_sets(folder: Path) -> list[WeightSet]:
    """Every set of weights in a folder, complete or not.

    Raises:
        InputError: an index that cannot be read, or that leaves a shard out.
    """
    names = sorted(child.name for child in folder.iterdir() if child.is_file())
    sets = [_indexed(folder / name) for name in names if _is_index(name)]
    listed = {file.name for found in sets for file in found.files}
    rest = [name for name in names if may_hold_weights(name) and name not in listed]
    shards: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name in rest:
        if match := _SHARD.fullmatch(name):
            shards[match["stem"], match["count"], match["suffix"]].append(name)
        else:
            sets.append(WeightSet(folder / name, [folder / name], []))
    for (stem, _, _), own in shards.items():
        match = _SHARD.fullmatch(own[0])
        assert match is not None
        _check_listed(folder, own, sets)
        sets.append(_numbered(folder, stem, match, own))
    return sets


def _check_listed(folder: Path, own: list[str], sets: list[WeightSet]) -> None:
    """Checks that an index lists all shards of its own save.

    Raises:
        InputError: it leaves one out.
    """
    count = own[0].rpartition("-of-")[2]
    for found in sets:
        if any(file.name.endswith(f"-of-{count}") for file in found.files):
            raise InputError(
                f"{folder}: {found.name.name} does not list {', '.join(own)}, which lies beside "
                "its shards; fetch the checkpoint again"
            )


def _only(sets: list[WeightSet], path: Path) -> WeightSet:
    if len(sets) > 1:
        names = " and ".join(found.name.name for found in sets)
        raise InputError(
            f"{path}: several sets of weights, {names}; give the one that you mean as SRC: "
            + " or ".join(str(found.name) for found in sets)
        )
    found = sets[0]
    if found.missing:
        raise InputError(f"{found.name.parent}: shards are missing: {', '.join(found.missing)}")
    return found


def _indexed(index: Path) -> WeightSet:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: weight_map is {weight_map!r:.40}, expected an object of files")
    for key, name in weight_map.items():
        # A shard lies beside its index.
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise InputError(f"{index}: weight_map.{key} is {name!r:.40}, expected a file's name")
    names = sorted({*weight_map.values()})
    there = [name for name in names if (index.parent / name).is_file()]
    missing = [name for name in names if name not in there]
    return WeightSet(index, [index.parent / name for name in there], missing, tuple(weight_map))


def _numbered(folder: Path, stem: str, match: re.Match[str], there: list[str]) -> WeightSet:
    width, count = len(match["number"]), match["count"]
    # Shards are counted from 1.
    names = [
        f"{stem}-{number:0{width}d}-of-{count}{match['suffix']}"
        for number in range(1, int(count) + 1)
    ]
    files = [folder / name for name in names if name in there]
    return WeightSet(folder / match.group(), files, [name for name in names if name not in there])
