"""Statistics of what a policy sees and does: exact in float64, in memory that chunks do not need.

A policy learns chunks of H actions, so its actions count as often as chunks hold them. All chunks
of a data set would be H times its size; here they pass by as a stream, one dimension and one step
of the chunk at a time. The quantiles are those of `numpy.quantile`: a histogram finds the bins in
which their neighbours lie, and a further pass picks these values.

Axis letters: t control step of all episodes in a row, n sample of a stream, s state dimension, e
action dimension, H action horizon.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import NormStats, Stats, compute_stats
from pi0_jax.errors import InputError

STATE_FLOOR = 1e-3
"""Smallest standard deviation of a value of state, in its unit: a joint that stood still in all
episodes would turn a shift by its encoder's noise into a huge input."""

_QUANTILES = (0.01, 0.99)
_BINS = 4096
_NO_WIDTH = 1e-290  # a range that has no bins: their number by its width would overflow

Stream = Callable[[], Iterator[np.ndarray]]
"""Gives the same samples at every call, float64[n] at a time."""


def motion_stats(
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    space: ActionSpace,
    horizon: int,
    std_floor: float,
) -> NormStats:
    """Statistics of states, and of actions over every step of every chunk inside its episode.

    Steps past the end of an episode do not count, as they do not count in the loss (openpi's
    `scripts/compute_norm_stats.py` repeats the last action there).

    Args:
        motions: per episode, raw state float[t, s] and actions float[t, e].
        space: the policy's action space.
        horizon: number of steps H per chunk.
        std_floor: smallest standard deviation of an action; that of a state is `STATE_FLOOR`.

    Raises:
        InputError: there is no sample, or one is not finite.
    """
    # In float64 from the beginning: in float32 the difference to the state would be rounded.
    states = np.concatenate([np.asarray(state, np.float64) for state, _ in motions])
    actions = np.concatenate([np.asarray(actions, np.float64) for _, actions in motions])
    states, actions = space.state(states), space.absolute_actions(actions)
    # Steps that are left in the episode, this one included: int[t].
    left = np.concatenate([np.arange(len(own), 0, -1) for _, own in motions])
    relative = np.flatnonzero(space.delta_mask)

    def of(dim: int) -> Stats:
        """The statistics of one action dimension."""
        origin = states[:, dim] if dim in relative else None
        return _stats_of(_chunk_steps(actions[:, dim], origin, left, horizon), std_floor)

    # NumPy computes without the GIL.
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(of, range(actions.shape[1])))
    joined = Stats(
        *(np.array([getattr(one, name) for one in parts]) for name in ("mean", "std", "q01", "q99"))
    )
    return NormStats(compute_stats(states, STATE_FLOOR), joined)


def _chunk_steps(
    actions: np.ndarray, origin: np.ndarray | None, left: np.ndarray, horizon: int
) -> Stream:
    """One action dimension over all chunks, less its value at the chunk's start if `origin` is set.

    Args:
        actions: float64[t].
        origin: float64[t], or None for absolute actions.
        left: int[t], steps left in the episode.
        horizon: H.
    """

    def stream() -> Iterator[np.ndarray]:
        """The step `ahead` of every chunk that has it, for each `ahead`."""
        for ahead in range(min(horizon, int(left.max(initial=0)))):
            starts = np.flatnonzero(left > ahead)
            values = actions[starts + ahead]
            yield values if origin is None else values - origin[starts]

    return stream


def _stats_of(stream: Stream, std_floor: float) -> Stats:
    """Statistics of one dimension: scalars in place of arrays.

    Raises:
        InputError: there is no sample, or one is not finite.
    """
    sums, lows, highs, count = [], [], [], 0
    for values in stream():
        sums.append(values.sum())
        lows.append(values.min())
        highs.append(values.max())
        count += len(values)
    if not count or not np.isfinite([*lows, *highs]).all():
        raise InputError(f"statistics need finite samples, got {count} with others among them")
    mean, low, high = math.fsum(sums) / count, min(lows), max(highs)
    squares, counts = [], np.zeros(_BINS, np.int64)
    for values in stream():
        squares.append(np.square(values - mean).sum())
        counts += np.bincount(_bin(values, low, high), minlength=_BINS)
    # The standard deviation of all samples (ddof 0), as openpi's running statistics compute it.
    std = math.sqrt(math.fsum(squares) / count)
    q01, q99 = _quantiles(stream, counts, low, high)
    middle = (q01 + q99) / 2
    q01, q99 = min(q01, middle - std_floor), max(q99, middle + std_floor)
    return Stats(*map(np.float64, (mean, max(std, std_floor), q01, q99)))  # type: ignore[arg-type]


def _bin(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The bin of each value, int64[n]; it never falls as the value rises."""
    if high - low < _NO_WIDTH:
        return np.zeros(len(values), np.int64)
    return np.minimum((values - low) * (_BINS / (high - low)), _BINS - 1).astype(np.int64)


def _quantiles(stream: Stream, counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The two quantiles, between their neighbours as `numpy.quantile` puts them."""
    ends = np.cumsum(counts)  # int[bin]: samples up to the end of each
    places = [share * (ends[-1] - 1) for share in _QUANTILES]
    ranks = [rank for place in places for rank in (math.floor(place), math.ceil(place))]
    bins = {int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
    picked: dict[int, dict[float, int]] = {number: {} for number in bins}
    for values in stream():
        own = _bin(values, low, high)
        for number, found in picked.items():
            # As counts of distinct values: a gripper has two, each of them a million times.
            distinct = np.unique(values[own == number], return_counts=True)
            for value, times in zip(*distinct, strict=True):
                found[float(value)] = found.get(float(value), 0) + int(times)
    sample = {rank: _ranked(picked, ends, rank) for rank in ranks}

    def between(place: float) -> float:
        """The value at a place between two ranks."""
        first = math.floor(place)
        below, above, share = sample[first], sample[math.ceil(place)], place - first
        # From the nearer one, so that the rounding is NumPy's too.
        if share < 0.5:
            return below + (above - below) * share
        return above - (above - below) * (1 - share)

    return between(places[0]), between(places[1])


def _ranked(picked: dict[int, dict[float, int]], ends: np.ndarray, rank: int) -> float:
    """The sample of this rank, counted from 0 in ascending order."""
    number = int(np.searchsorted(ends, rank, side="right"))
    below = int(ends[number - 1]) if number else 0
    for value, times in sorted(picked[number].items()):
        below += times
        if rank < below:
            return value
    raise AssertionError("the stream gave other samples at its second pass")
