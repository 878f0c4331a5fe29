"""Where demonstrations come from, seen from training: statistics, and windows drawn by number.

Axis letters: t control step, n sample, H action horizon, s state dimension, e action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_jax.data.normalize import NormStats, Stats, compute_stats
from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import WindowConfig, count, cut_windows, take
from pi0_jax.episode import Episode
from pi0_jax.types import Batch


class WindowSource(Protocol):
    """Training windows by number, from wherever they lie."""

    def __len__(self) -> int:
        """Number of windows."""
        ...

    def take(self, indices: np.ndarray) -> Batch:
        """The windows at int[m] `indices`, as host arrays."""
        ...


class Demonstrations(Protocol):
    """Episodes to imitate."""

    def windows(
        self, transforms: Transforms, horizon: int, weight: float = 0.0, skip_short: bool = False
    ) -> WindowSource:
        """All windows of H steps that start at a picture.

        Args:
            transforms: of the policy that is trained.
            horizon: H.
            weight: of every window in the conditional branch.
            skip_short: leave out windows that reach behind the end of their episode.
        """
        ...

    def stats(self, delta_dims: int, horizon: int, std_floor: float) -> NormStats:
        """Statistics of states and actions, as `motion_stats`."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Windows that are cut already."""

    batch: Batch

    def __len__(self) -> int:
        """Number of windows."""
        return count(self.batch)

    def take(self, indices: np.ndarray) -> Batch:
        """The windows at int[m] `indices`."""
        return take(self.batch, indices)


@dataclass(frozen=True)
class Recorded:
    """Demonstrations that were made here: whole episodes in memory."""

    episodes: Sequence[Episode]

    def __str__(self) -> str:
        """One line for the log."""
        solved = sum(episode.success for episode in self.episodes)
        return f"{len(self.episodes)} made here, {solved} successful"

    def windows(
        self, transforms: Transforms, horizon: int, weight: float = 0.0, skip_short: bool = False
    ) -> InMemory:
        """One window at every look of the demonstrator.

        Raises:
            InputError: no episode has a whole window, and others are left out.
        """
        config = WindowConfig(skip_short=skip_short)
        weights = [weight] * len(self.episodes)
        return InMemory(cut_windows(self.episodes, weights, transforms, horizon, config))

    def stats(self, delta_dims: int, horizon: int, std_floor: float) -> NormStats:
        """Statistics over every step, successful or not."""
        motions = [(episode.state, episode.actions) for episode in self.episodes]
        return motion_stats(motions, delta_dims, horizon, std_floor)


def motion_stats(
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    delta_dims: int,
    horizon: int,
    std_floor: float,
) -> NormStats:
    """Statistics of what a policy sees and does.

    Args:
        motions: raw state float[t, s] and actions float[t, e] of every episode.
        delta_dims: leading action dimensions that the policy has relative to the state at the
            start of its chunk. Their statistics are over every step of every chunk that lies
            within its episode (openpi's `scripts/compute_norm_stats.py` repeats the last action
            behind the end).
        horizon: H, steps of a chunk.
        std_floor: smallest standard deviation of an action.

    Raises:
        InputError: no sample, or one that is not finite.
    """
    state = compute_stats(np.concatenate([state for state, _ in motions]))
    actions = compute_stats(np.concatenate([actions for _, actions in motions]), std_floor)
    relative = [
        compute_stats(_relative(motions, dim, horizon), std_floor) for dim in range(delta_dims)
    ]
    return NormStats(state, _leading(relative, actions))


def _relative(
    motions: Sequence[tuple[np.ndarray, np.ndarray]], dim: int, horizon: int
) -> np.ndarray:
    """float[n, 1]: one action dimension less the state at the start of each chunk."""
    parts = [
        actions[ahead:, dim] - state[: len(state) - ahead, dim]
        for state, actions in motions
        for ahead in range(min(horizon, len(actions)))
    ]
    return np.concatenate(parts)[:, None]


def _leading(first: Sequence[Stats], rest: Stats) -> Stats:
    """`rest` with its leading dimensions replaced, each by one of `first`."""

    def replaced(name: str) -> np.ndarray:
        """One statistic, float64[e]."""
        own = [getattr(stats, name) for stats in first]
        return np.concatenate([*own, getattr(rest, name)[len(own) :]])

    return Stats(*(replaced(name) for name in ("mean", "std", "q01", "q99")))
