"""Normalisation statistics, from wherever a layout keeps them; missing ones are an error."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_jax.convert import safetensors_file
from pi0_jax.convert.keymap import STATISTICS
from pi0_jax.convert.torch_config import TorchConfig
from pi0_jax.convert.torch_files import Tensors
from pi0_jax.data.normalize import NormStats, Stats, load_norm_stats
from pi0_jax.errors import InputError

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
# lerobot's modes that pi0 has: whether quantiles replace mean and standard deviation.
_MODES = {"MEAN_STD": False, "QUANTILES": True}
_FIELDS = ("mean", "std", "q01", "q99")


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


def from_file(path: Path, asset_id: str | None) -> FoundStats:
    """Reads a norm_stats.json that the user names."""
    return FoundStats(load_norm_stats(path), asset_id or "default", str(path))


def from_assets(folder: Path, asset_id: str | None) -> FoundStats | None:
    """Reads openpi's assets/<asset_id>/norm_stats.json; None if there is no such folder.

    Raises:
        InputError: several asset ids and none named, or none of that name.
    """
    assets = folder / "assets"
    # An asset id may hold a slash, as in org/robot.
    found = {
        str(file.parent.relative_to(assets)): file
        for file in sorted(assets.rglob("norm_stats.json"))
    }
    if not found:
        return None
    if asset_id is None and len(found) > 1:
        raise InputError(f"{assets}: several asset ids; name one: --asset-id {' | '.join(found)}")
    name = asset_id or next(iter(found))
    if name not in found:
        raise InputError(f"{assets}: no asset id {name!r}; there are {', '.join(found)}")
    return FoundStats(load_norm_stats(found[name]), name, str(found[name]))


def from_tensors(tensors: Tensors, config: TorchConfig, asset_id: str | None) -> FoundStats | None:
    """Reads statistics among the weights, as in lerobot 0.1-0.3; None if there are none.

    Raises:
        InputError: they were never set (infinite), are incomplete, or contradict each other.
    """
    keys = [key for key in tensors.shapes if key.startswith(STATISTICS)]
    if not keys:
        return None
    values = {key: np.asarray(tensors.read(key), np.float64) for key in keys}
    where = str(tensors.files[0])

    def stats(prefix: str) -> Stats:
        """Statistics of one buffer."""
        return _stats(
            {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}, where
        )

    known = (
        "normalize_inputs.buffer_observation_state.",
        "normalize_targets.buffer_action.",
        "unnormalize_outputs.buffer_action.",
    )
    # Image statistics would change what the network sees, so they are not dropped silently.
    strange = [key for key in keys if not key.startswith(known)]
    if strange:
        raise InputError(
            f"{where}: statistics of images, which pi0 does not normalise: {', '.join(strange)}"
        )
    # Each field of these is float64 [width].
    state, target, output = map(stats, known)
    # The first normalised the training targets, the second converts outputs back to actions.
    _same(target, output, where)
    return FoundStats(
        NormStats(state, output), asset_id or "default", where, _quantile(config, where)
    )


def from_processors(folder: Path, config: TorchConfig, asset_id: str | None) -> FoundStats | None:
    """Reads statistics from processor files of lerobot 0.4 and later; None if there are none.

    Raises:
        InputError: they are incomplete or contradict each other.
    """
    if not (folder / PREPROCESSOR).is_file():
        return None
    inputs = _state_file(folder, PREPROCESSOR, NORMALIZER)
    outputs = _state_file(folder, POSTPROCESSOR, UNNORMALIZER)
    where = str(folder / PREPROCESSOR)
    state = _stats(_under("observation.state.", inputs), where)
    # The postprocessor acts; the preprocessor holds the same numbers for training.
    action = _stats(_under("action.", outputs), where)
    _same(action, _stats(_under("action.", inputs), where), where)
    return FoundStats(
        NormStats(state, action), asset_id or "default", where, _quantile(config, where)
    )


def first(sources: list[Callable[[], FoundStats | None]], where: Path) -> FoundStats:
    """Statistics from the first of several places that has any.

    Args:
        sources: functions that read one place each, in order; they return None for "none here".
        where: the checkpoint, for the message.

    Raises:
        InputError: no place has statistics.
    """
    for source in sources:
        found = source()
        if found is not None:
            return found
    raise InputError(
        f"{where}: no normalisation statistics found (assets/*/norm_stats.json, processor files, "
        "tensors in the weights); a policy needs them: give --norm-stats FILE"
    )


def check_widths(found: FoundStats, config: TorchConfig, dims: int) -> None:
    """Checks statistics against the checkpoint's declared features and the model's dimensions.

    Args:
        found: the statistics.
        config: what the checkpoint's config.json declares.
        dims: padded state and action dimension of the model.

    Raises:
        InputError: they do not fit; the message has both widths.
    """
    for name, stats, declared in (
        ("state", found.stats.state, config.state_dim),
        ("actions", found.stats.actions, config.action_dim),
    ):
        width = len(stats.mean)
        if width > dims:
            raise InputError(
                f"{found.where}: statistics of {name} are {width} wide, the model takes {dims}"
            )
        # Zero-padded statistics may be wider than the robot's features.
        if declared is not None and not own_width(stats) <= declared <= width:
            raise InputError(
                f"{found.where}: statistics of {name} are {own_width(stats)} wide, the "
                f"checkpoint's config.json declares {declared}"
            )


def own_width(stats: Stats) -> int:
    """Number of dimensions that are the robot's own.

    Older statistics are zero-padded to the model's width. Padding has mean and deviation 0.
    """
    # Up to the last real one: a constant dimension before it still counts.
    real = np.flatnonzero((stats.std != 0) | (stats.mean != 0))
    return int(real[-1]) + 1 if len(real) else len(stats.mean)


def _state_file(folder: Path, name: str, step: str) -> Mapping[str, np.ndarray]:
    """The tensors of one step of a lerobot processor, by name."""
    path = folder / name
    try:
        steps = json.loads(path.read_text())["steps"]
        files = [s["state_file"] for s in steps if s.get("registry_name") == step]
        entries = safetensors_file.SafetensorsFile(folder / files[0]).entries
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: expected a {step} with its state_file: {error!r}") from error
    return {
        key: np.asarray(safetensors_file.read(entry), np.float64) for key, entry in entries.items()
    }


def _under(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _stats(values: Mapping[str, np.ndarray], where: str) -> Stats:
    found = {name: values[name] for name in _FIELDS if name in values}
    if not {"mean", "std"} <= found.keys():
        raise InputError(f"{where}: statistics without mean and std; give --norm-stats FILE")
    if len({x.shape for x in found.values()}) > 1:
        raise InputError(f"{where}: mean, std and quantiles of different widths")
    # lerobot creates its buffers filled with infinity and expects them to be loaded.
    if not all(np.isfinite(x).all() for x in found.values()):
        raise InputError(
            f"{where}: the statistics were never set (they are infinite); give --norm-stats FILE"
        )
    return Stats(**found)


def _same(a: Stats, b: Stats, where: str) -> None:
    if not (np.array_equal(a.mean, b.mean) and np.array_equal(a.std, b.std)):
        raise InputError(
            f"{where}: the statistics of actions differ between input and output; "
            "give --norm-stats FILE"
        )


def _quantile(config: TorchConfig, where: str) -> bool:
    # A policy folder has one flag for both, as openpi has.
    modes = {config.normalization.get(name, "MEAN_STD") for name in ("STATE", "ACTION")}
    if len(modes) > 1 or not modes <= _MODES.keys():
        raise InputError(
            f"{where}: normalisation {sorted(modes)} of state and actions is not supported; "
            f"expected one of {sorted(_MODES)} for both"
        )
    return _MODES[modes.pop()]
