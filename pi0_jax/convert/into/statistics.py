"""Normalisation statistics, from wherever a layout keeps them; missing ones are an error."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_jax.convert.files.torch_files import Tensors
from pi0_jax.convert.keys.keymap import STATISTICS
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.settings.stored_stats import (
    FIELDS,
    UNREAD_FIELDS,
    check_dtype,
    same_actions,
    stats_from,
)
from pi0_jax.data.normalize import NormStats, load_norm_stats
from pi0_jax.errors import InputError
from pi0_jax.listing import below
from pi0_jax.plain_file import check_file

# lerobot's modes that pi0 has: whether quantiles replace mean and standard deviation.
_MODES = {"MEAN_STD": False, "QUANTILES": True}


class FoundStats(NamedTuple):
    """Statistics, and where they were found.

    Attributes:
        stats: statistics of the raw state and of the actions.
        asset_id: name of their folder under assets/.
        where: the file they came from, for messages.
        quantile: whether the policy normalises by quantiles instead of z-scores; None where the
            layout leaves that to the model.
    """

    stats: NormStats
    asset_id: str
    where: str
    quantile: bool | None = None

    def by_quantiles(self, *, pi05: bool) -> bool:
        """Whether to normalise by quantiles: what the layout says, else as openpi's model does."""
        return pi05 if self.quantile is None else self.quantile


def from_file(path: Path, asset_id: str | None, config: TorchConfig | None = None) -> FoundStats:
    """Reads a norm_stats.json that the user names.

    Args:
        path: the file.
        asset_id: its new name; None for "default".
        config: what the checkpoint declares; it may say how to normalise.

    Raises:
        InputError: no such file, or another kind of file.
    """
    if path.is_dir():
        # No deeper than assets/org/robot: it may be the root of a disk.
        inside = [str(f) for depth in range(4) for f in path.glob("*/" * depth + "norm_stats.json")]
        hint = f"; there is {', '.join(inside)}" if inside else ""
        raise InputError(f"{path}: --norm-stats takes a file and this is a folder{hint}")
    check_file(path)
    mode = declared_quantile(config, str(path)) if config else None
    return FoundStats(load_norm_stats(path), asset_id or "default", str(path), mode)


def from_assets(
    folder: Path, asset_id: str | None, config: TorchConfig | None = None
) -> FoundStats | None:
    """Reads openpi's assets/<asset_id>/norm_stats.json; None if there is no such file.

    RLinf keeps <asset_id>/norm_stats.json beside the weights, without assets/.

    Raises:
        InputError: several asset ids and none named, or none of that name.
    """
    found = _asset_files(folder)
    if not found:
        return None
    if asset_id is None and len(found) > 1:
        raise InputError(f"{folder}: several asset ids; name one: --asset-id {' | '.join(found)}")
    name = asset_id or next(iter(found))
    if name not in found:
        raise InputError(f"{folder}: no asset id {name!r}; there are {', '.join(found)}")
    check_file(found[name])
    where = str(found[name])
    mode = declared_quantile(config, where) if config else None
    return FoundStats(load_norm_stats(found[name]), name, where, mode)


def from_tensors(tensors: Tensors, config: TorchConfig, asset_id: str | None) -> FoundStats | None:
    """Reads statistics among the weights, as in lerobot 0.1-0.3; None if there are none.

    Raises:
        InputError: they were never set (infinite), are incomplete, or contradict each other.
    """
    keys = [key for key in tensors.shapes if key.startswith(STATISTICS)]
    if not keys:
        return None
    where = str(tensors.files[0])
    known = {
        "normalize_inputs.buffer_observation_state": "state",
        "normalize_targets.buffer_action": "target",
        "unnormalize_outputs.buffer_action": "output",
    }
    _check_buffers([key for key in keys if not _is_buffer(key, known)], where)
    for key in keys:
        check_dtype(key, tensors.dtypes[key], where)
    values = {
        f"{known[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": np.asarray(
            tensors.read(key), np.float64
        )
        for key in keys
    }
    # Each field of these is float64 [width].
    state, output = (stats_from(values, name, where) for name in ("state", "output"))
    if state is None or output is None:
        raise InputError(f"{where}: statistics without state or actions; give --norm-stats FILE")
    # One normalised the targets of training, the other converts outputs back to actions.
    same_actions(output, stats_from(values, "target", where), where)
    mode = declared_quantile(config, where)
    return FoundStats(NormStats(state, output), asset_id or "default", where, mode)


def from_processors(config: TorchConfig, asset_id: str | None) -> FoundStats | None:
    """Takes statistics of a processor (lerobot 0.4 and later, transformers); None without any."""
    stored = config.statistics
    if stored is None:
        return None
    mode = declared_quantile(config, stored.where)
    stats = NormStats(stored.state, stored.actions)
    return FoundStats(stats, asset_id or "default", stored.where, mode)


def only(sources: list[Callable[[], FoundStats | None]], where: Path) -> FoundStats:
    """The statistics of a checkpoint, which may be kept in one of several places.

    Args:
        sources: functions that read one place each; they return None for "none here".
        where: the checkpoint, for the message.

    Raises:
        InputError: no place has statistics, or two have different ones.
    """
    places = [found for found in (source() for source in sources) if found is not None]
    if not places:
        raise InputError(
            f"{where}: no normalisation statistics found (assets/*/norm_stats.json, a "
            "processor's files, tensors in the weights); a policy needs them: give --norm-stats "
            "FILE"
        )
    chosen = places[0]
    for other in places[1:]:
        if not _alike(chosen.stats, other.stats):
            raise InputError(
                f"{where}: different statistics in {chosen.where} and in {other.where}; say which "
                "with --norm-stats FILE"
            )
    return chosen


def declared_quantile(config: TorchConfig, where: str) -> bool | None:
    """Whether the policy normalises by quantiles; None where its layout leaves that to the model.

    Raises:
        InputError: lerobot's modes of state and action are not the same, or not one that pi0 has.
    """
    if not config.normalization:
        return None
    # A policy folder has one flag for both, as openpi has.
    modes = {config.normalization.get(name, "IDENTITY") for name in ("STATE", "ACTION")}
    if len(modes) > 1 or not modes <= _MODES.keys():
        raise InputError(
            f"{where}: normalisation {sorted(modes)} of state and actions is not supported; "
            f"expected one of {sorted(_MODES)} for both"
        )
    return _MODES[modes.pop()]


def _asset_files(folder: Path) -> dict[str, Path]:
    """Asset id to its norm_stats.json."""
    # An asset id may hold a slash, as in org/robot; where there is none, the file's place has none.
    beside = [f for p in ("", "*/", "*/*/") for f in sorted(folder.glob(f"{p}norm_stats.json"))]
    inside = below(folder / "assets", "norm_stats.json")
    found = {str(file.parent.relative_to(folder)): file for file in beside}
    found = {name: f for name, f in found.items() if name.partition("/")[0] != "assets"}
    if "." in found:
        found["default"] = found.pop(".")
    return found | {str(file.parent.relative_to(folder / "assets")): file for file in inside}


def _is_buffer(key: str, known: Mapping[str, str]) -> bool:
    quantity, _, field = key.rpartition(".")
    return quantity in known and (field in FIELDS or field in UNREAD_FIELDS)


def _check_buffers(strange: list[str], where: str) -> None:
    """Raises for statistics that are neither of state nor of actions."""
    if not strange:
        return
    images = [key for key in strange if "buffer_observation_image" in key]
    of_sets = [key for key in strange if key.partition(".")[2].partition("buffer_")[0]]
    if of_sets:
        names = sorted(
            {key.partition(".")[2].partition("buffer_")[0].strip("_") for key in of_sets}
        )
        raise InputError(
            f"{where}: statistics of several data sets by name ({', '.join(names)}); write those "
            "of one robot into a norm_stats.json and give --norm-stats FILE"
        )
    what = "images, which pi0 does not normalise" if images else "something else than state, action"
    raise InputError(f"{where}: statistics of {what}: {', '.join(strange)}")


def _alike(a: NormStats, b: NormStats) -> bool:
    """Whether mean and deviation are the same but for rounding to float32 and padding."""
    return all(
        _close(getattr(x, key), getattr(y, key))
        for x, y in ((a.state, b.state), (a.actions, b.actions))
        for key in ("mean", "std", "q01", "q99")
    )


def _close(x: np.ndarray | None, y: np.ndarray | None) -> bool:
    # One place may lack quantiles that the other has.
    if x is None or y is None:
        return True
    width = max(len(x), len(y))
    padded = (np.pad(each, (0, width - len(each))) for each in (x, y))
    return bool(np.allclose(*padded, rtol=1e-5, atol=1e-7))
