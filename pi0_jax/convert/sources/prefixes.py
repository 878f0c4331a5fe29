"""Names of tensors without what wrappers put around them: DDP, FSDP, torch.compile, a trainer.

The weights are told by `action_out_proj`, the projection back to actions: every layout has it under
this name, and a complete set of weights has it once. What stands before it is the prefix.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_jax.convert.files.containers import beside_weights
from pi0_jax.convert.files.torch_files import Tensors
from pi0_jax.errors import InputError

ANCHOR = "action_out_proj"
# Levels that FSDP, activation checkpoints and torch.compile put anywhere into a name.
_WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod")
# What PEFT puts before the names of the model that it adapts.
PEFT = "base_model.model."
_LEROBOT = "model."


class Renamed:
    """`Tensors` under other names, or fewer of them."""

    def __init__(self, tensors: Tensors, names: dict[str, str]):
        """Keeps the tensors `names.values()` and calls them `names`."""
        self._tensors, self._names = tensors, names
        self.files, self.metadata = tensors.files, tensors.metadata
        self.beside = tensors.beside
        self.shapes = {new: tensors.shapes[old] for new, old in names.items()}
        self.dtypes = {new: tensors.dtypes[old] for new, old in names.items()}

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor."""
        return self._tensors.read(self._names[key])


class Stripped(NamedTuple):
    """Tensors under their plain names.

    Attributes:
        tensors: the tensors.
        notes: what was taken off, and what was left out.
    """

    tensors: Tensors
    notes: list[str]


def strip(tensors: Tensors, container: str | None, path: Path) -> Stripped:
    """Takes containers, wrappers and prefixes off the names.

    Args:
        tensors: as they are on disk; a name has its containers, as in `ema/a.weight`.
        container: the container or prefix of the set that the user chose, without its last sign.
        path: where they lie, for messages.

    Raises:
        InputError: several sets of weights, something unread beside them, or two equal names.
    """
    plain = without_wrappers(tensors.shapes, path)
    unwrapped = [old for new, old in plain.items() if new != old]
    levels = [
        level
        for level in _WRAPPERS
        if any(level in key.rpartition("/")[2].split(".") for key in unwrapped)
    ]
    notes = [f"{', '.join(levels)} taken out of {len(unwrapped)} names"] if unwrapped else []
    found = prefixes(plain)
    # Without a complete set, what is there gets its own message.
    prefix = _choose(found, container, path) if found else _common_container(plain)
    kept = [key for key in plain if _belongs(key, prefix, found)]
    left = [key for key in plain if key not in set(kept)]
    if left and container is None:
        raise beside_weights(path, left)
    if left:
        notes.append(f"{len(left)} tensors that do not belong to {container!r} left out")
    cut, inside = _cut(prefix, plain), _container(prefix)
    names: dict[str, str] = {}
    for key in kept:
        _put(names, key.removeprefix(cut if key.startswith(cut) else inside), plain[key], path)
    if inside:
        notes.append(f"the weights are those in {inside.rstrip('/')!r}")
    if cut != inside:
        notes.append(f"prefix {cut.removeprefix(inside)!r} taken off the names")
    same = all(new == old for new, old in names.items()) and len(names) == len(tensors.shapes)
    return Stripped(tensors if same else Renamed(tensors, names), notes)


def prefixes(keys: Iterable[str]) -> list[str]:
    """What stands before `action_out_proj`, for every set of weights among the keys."""
    found = {}
    for key in keys:
        containers, slash, name = key.rpartition("/")
        parts = name.split(".")
        if ANCHOR in parts:
            levels = parts[: parts.index(ANCHOR)]
            found[containers + slash + "".join(f"{level}." for level in levels)] = True
    return list(found)


def _choose(found: list[str], container: str | None, path: Path) -> str:
    # The container alone is the shorter name, if each set has one of its own.
    labels = [_container(prefix) for prefix in found]
    if len(set(labels)) < len(found):
        labels = found
    named = {label.rstrip("/.") or ".": prefix for label, prefix in zip(labels, found, strict=True)}
    if container is not None:
        if container not in named:
            raise InputError(f"{path}: no weights in {container!r}, only in {_listed(named)}")
        return named[container]
    if len(found) > 1:
        raise InputError(
            f"{path}: {len(found)} sets of weights, in {_listed(named)}; choose one with "
            "--container NAME"
        )
    return found[0]


def _listed(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def _belongs(key: str, prefix: str, found: list[str]) -> bool:
    """Whether a name is of the chosen set, or of none and in the same container."""
    owners = [other for other in found if key.startswith(other)]
    if owners:
        return max(owners, key=len) == prefix
    return key.startswith(_container(prefix))


def _container(prefix: str) -> str:
    return prefix[: prefix.rfind("/") + 1]


def without_wrappers(keys: Iterable[str], path: Path) -> dict[str, str]:
    """Name without the wrappers' levels -> name on disk."""
    found: dict[str, str] = {}
    for key in keys:
        containers, slash, name = key.rpartition("/")
        parts = [part for part in name.split(".") if part not in _WRAPPERS]
        _put(found, containers + slash + ".".join(parts), key, path)
    return found


def _common_container(keys: Iterable[str]) -> str:
    found = {key.rpartition("/")[0] for key in keys}
    return f"{found.pop()}/" if len(found) == 1 and found != {""} else ""


def _cut(prefix: str, keys: Iterable[str]) -> str:
    """The part of the prefix that is no part of the layout's own names."""
    own = prefix.removeprefix(_container(prefix)).removeprefix(PEFT)
    # lerobot's own names begin with `model.`.
    is_lerobot = any(key.startswith(f"{prefix}paligemma_with_expert.") for key in keys)
    if is_lerobot and (own == _LEROBOT or own.endswith(f".{_LEROBOT}")):
        return prefix.removesuffix(_LEROBOT)
    return prefix


def _put(names: dict[str, str], new: str, old: str, path: Path) -> None:
    if new in names:
        raise InputError(f"{path}: {names[new]} and {old} are the same tensor, {new}, twice")
    names[new] = old
