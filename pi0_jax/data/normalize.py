"""Normalisation statistics: computing, applying, inverting, and openpi's norm_stats.json.

Beside openpi's entry the file may say what the numbers were computed from (`origin.py`).

Axis letters: n sample, d dimension.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.data.origin import Origin, digest_of
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.plain_values import build

# Keeps a constant dimension finite (openpi `transforms.Normalize`).
EPSILON = 1e-6
# Networks compute in float32.
_LARGEST = float(np.finfo(np.float32).max)


# Our own entry of the file, which openpi does not read.
_ORIGIN = "pi0_jax"
# What other programs add to an entry; neither way of normalising reads it.
_HARMLESS = ("min", "max", "count")


@dataclass(frozen=True)
class Stats:
    """Statistics of one quantity.

    Attributes:
        mean: float64[d].
        std: float64[d].
        q01: float64[d], 1 % quantile; None if the file has none.
        q99: float64[d], 99 % quantile; None if the file has none.
    """

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None


@dataclass(frozen=True)
class NormStats:
    """Statistics of raw proprioception and of (delta or absolute) actions.

    Attributes:
        state: of proprioception.
        actions: of actions.
        origin: what they were computed from; None if that is not known.
    """

    state: Stats
    actions: Stats
    origin: Origin | None = None

    @property
    def digest(self) -> str:
        """Digest of all numbers."""
        both = (*asdict(self.state).values(), *asdict(self.actions).values())
        return digest_of(both)


def compute_stats(values: np.ndarray, std_floor: float = 0.0) -> Stats:
    """Exact statistics of float[n, d].

    Args:
        values: all samples.
        std_floor: smallest standard deviation, in the unit of the values, and smallest distance of
            the quantiles from their middle. Without it, a dimension that hardly moves would have
            its rounding errors normalised to large values.

    Raises:
        InputError: there is no sample, or a value is not finite.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"statistics need finite samples, got shape {values.shape}")
    # The standard deviation of all samples (ddof 0), as openpi's running statistics compute it.
    q01, q99 = np.quantile(values, (0.01, 0.99), axis=0)
    middle = (q01 + q99) / 2
    q01, q99 = np.minimum(q01, middle - std_floor), np.maximum(q99, middle + std_floor)
    return Stats(values.mean(0), np.maximum(values.std(0), std_floor), q01, q99)


def z_score(x: np.ndarray, stats: Stats) -> np.ndarray:
    """(x - mean) / (std + 1e-6) of float[..., d]; statistics wider than x are cut to its width."""
    # Statistics of a published checkpoint may be padded to the network's width.
    d = x.shape[-1]
    _check_width(stats, d)
    return (x - stats.mean[:d]) / (stats.std[:d] + EPSILON)


def undo_z_score(x: np.ndarray, stats: Stats) -> np.ndarray:
    """Inverse of `z_score`; dimensions of x past the statistics' width are not changed."""
    # With mean 0 and std 1 - EPSILON a padding dimension is multiplied by exactly 1.
    mean, std = _pad(stats.mean, x.shape[-1], 0.0), _pad(stats.std, x.shape[-1], 1.0 - EPSILON)
    return x * (std + EPSILON) + mean


def quantile(x: np.ndarray, stats: Stats) -> np.ndarray:
    """Maps [q01, q99] to [-1, 1] in float[..., d]; wider statistics are cut to the width of x."""
    low, high = _quantiles(stats)
    d = x.shape[-1]
    _check_width(stats, d)
    return (x - low[:d]) / (high[:d] - low[:d] + EPSILON) * 2.0 - 1.0


def undo_quantile(x: np.ndarray, stats: Stats) -> np.ndarray:
    """Inverse of `quantile`; dimensions of x past the statistics' width are not changed."""
    low, high = _quantiles(stats)
    d = x.shape[-1]
    # From -1 to 1 - EPSILON: a padding dimension is mapped to itself.
    low, high = _pad(low, d, -1.0), _pad(high, d, 1.0 - EPSILON)
    return (x + 1.0) / 2.0 * (high - low + EPSILON) + low


def save_norm_stats(path: Path, stats: NormStats) -> None:
    """Writes openpi's norm_stats.json."""
    named = {"state": stats.state, "actions": stats.actions}
    plain = {
        name: {k: v.tolist() for k, v in asdict(part).items() if v is not None}
        for name, part in named.items()
    }
    values: dict[str, Any] = {"norm_stats": plain}
    if stats.origin:
        values[_ORIGIN] = {"digest": stats.digest, **asdict(stats.origin)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")


def check_stats(stats: Stats) -> str | None:
    """What is impossible about statistics, such as a negative deviation; None if nothing is."""
    for name, values in asdict(stats).items():
        if values is not None and (np.abs(values) > _LARGEST).any():
            return f"{name} has {np.abs(values).max():.3g}, which float32 does not hold"
    negative = np.flatnonzero(stats.std < 0)
    if len(negative):
        return f"the standard deviation of dimension {negative[0]} is negative"
    if stats.q01 is not None and stats.q99 is not None:
        crossed = np.flatnonzero(stats.q01 > stats.q99)
        if len(crossed):
            return f"q01 of dimension {crossed[0]} is above its q99"
    return None


def load_norm_stats(path: Path) -> NormStats:
    """Reads openpi's norm_stats.json.

    Raises:
        InputError: there is no such file, it is no JSON or of another program, or an entry is
            missing, impossible or of a wrong shape; the message names it. Or the numbers are not
            those that were computed.
    """
    try:
        values = read_object(path)
        own = values.pop(_ORIGIN, None)
        if other := _other_program(values):
            raise InputError(other)
        _check_names(values, ("norm_stats",), "it")
        _check_names(values["norm_stats"], ("state", "actions"), "norm_stats")
        found = values["norm_stats"]
        state, actions = (_parse(found[name], name) for name in ("state", "actions"))
        stats = NormStats(state, actions)
        return stats if own is None else replace(stats, origin=_origin(own, stats))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a policy needs its statistics") from error
    except InputError as error:
        raise InputError(f"{path}: expected openpi's norm_stats.json: {error}") from error


def _origin(values: Any, stats: NormStats) -> Origin:
    """What our own entry says.

    Raises:
        InputError: it is wrong, or belongs to other numbers.
    """
    _check_object(values, _ORIGIN)
    values = dict(values)
    if values.pop("digest", None) != stats.digest:
        raise InputError(
            "its numbers are not those that were computed (the digest differs); compute them "
            f"anew, or take out its entry {_ORIGIN!r} if the change was meant"
        )
    return build(_ORIGIN, Origin, values)


def _check_names(values: Any, names: tuple[str, ...], what: str) -> None:
    """Checks that an object has these names and no other.

    Raises:
        InputError: it has not. openpi normalises whatever has an entry, so none is left unread.
    """
    _check_object(values, what)
    if missing := [name for name in names if values.get(name) is None]:
        raise InputError(f"{what} has no {missing[0]}, found {', '.join(values) or 'nothing'}")
    if extra := [name for name in values if name not in names]:
        raise InputError(
            f"{what} has {', '.join(extra)} too, which pi0_jax does not read and openpi may "
            "normalise by; take it out, in a copy"
        )


def _check_object(values: Any, what: str) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{what} is {values!r:.40}, expected an object {{...}}")


def _other_program(values: dict[str, Any]) -> str | None:
    """What else a file is, if it is known; None for openpi's, or for something unknown."""
    entries = values.get("norm_stats", values)
    if not isinstance(entries, dict):
        return None
    if "observation.state" in entries or "action" in entries:
        return (
            "these are lerobot's names (observation.state, action); write them as "
            '{"norm_stats": {"state": ..., "actions": ...}}, of the actions that the policy gives'
        )
    parts = [part for part in entries.values() if isinstance(part, dict)]
    if any("proprio" in part or "action" in part for part in parts):
        return (
            f"this is OpenVLA's dataset_statistics.json of {', '.join(entries)}; its actions are "
            "normalised otherwise"
        )
    if "norm_stats" not in values and {"state", "actions"} <= values.keys():
        return "its two entries belong under the key norm_stats"
    if parts and all({"state", "actions"} <= part.keys() for part in parts):
        return f"it has statistics of {', '.join(entries)}; expected those of one robot"
    return None


def _parse(entry: Any, name: str) -> Stats:
    # Files of z-score checkpoints have no quantiles, or null.
    _check_object(entry, name)
    used = {key: x for key, x in entry.items() if x is not None and key not in _HARMLESS}
    quantiles = tuple(key for key in ("q01", "q99") if key in used)
    _check_names(used, ("mean", "std", *quantiles), name)
    for key, numbers in used.items():
        _check_numbers(numbers, f"{name}.{key}")
    widths = {key: len(numbers) for key, numbers in used.items()}
    if len({*widths.values()}) > 1:
        raise InputError(f"{name}: mean, std and quantiles must be equally long lists: {widths}")
    stats = Stats(**{key: np.asarray(numbers, np.float64) for key, numbers in used.items()})
    if problem := check_stats(stats):
        raise InputError(f"{name}: {problem}")
    return stats


def _check_numbers(values: Any, name: str) -> None:
    # A bool is a number to NumPy, but not to a person.
    if not isinstance(values, list) or not values:
        raise InputError(f"{name} is {values!r:.40}, expected a list of numbers")
    for i, value in enumerate(values):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise InputError(f"{name}[{i}] is {value!r:.40}, expected a finite number")


def _quantiles(stats: Stats) -> tuple[np.ndarray, np.ndarray]:
    if stats.q01 is None or stats.q99 is None:
        raise InputError("quantile normalisation needs q01 and q99; these statistics have none")
    return stats.q01, stats.q99


def _check_width(stats: Stats, d: int) -> None:
    if len(stats.mean) < d:
        raise InputError(f"statistics of width {len(stats.mean)} do not cover {d} dimensions")


def _pad(values: np.ndarray, d: int, fill: float) -> np.ndarray:
    """float[d]: values cut to d, or filled up to it."""
    return np.concatenate([values[:d], np.full(max(0, d - len(values)), fill)])
