"""What training needs of demonstrations: their statistics, and windows taken by number.

Axis letters: t control step, n sample, H action horizon, s state dimension, e action dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import NormStats, Stats, compute_stats
from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import WindowConfig, count, cut_windows, take
from pi0_jax.episode import Episode
from pi0_jax.types import Batch


class WindowSource(Protocol):
    """Training windows that are taken by number, from memory or from disk."""

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
            transforms: transforms of the policy that is trained.
            horizon: number of actions H per window.
            weight: weight of every window in the conditional branch.
            skip_short: leave out windows that reach past the end of their episode.
        """
        ...

    def stats(self, space: ActionSpace, horizon: int, std_floor: float) -> NormStats:
        """Statistics of states and actions; arguments and errors as in `motion_stats`."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Windows that were cut before, kept in memory."""

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
        """Cuts one window at every picture of the episodes; arguments as in `Demonstrations`.

        Raises:
            InputError: no episode has a whole window and `skip_short` leaves out the others.
        """
        config = WindowConfig(skip_short=skip_short)
        weights = [weight] * len(self.episodes)
        return InMemory(cut_windows(self.episodes, weights, transforms, horizon, config))

    def stats(self, space: ActionSpace, horizon: int, std_floor: float) -> NormStats:
        """Statistics over every step of all episodes, successful or not."""
        motions = [(episode.state, episode.actions) for episode in self.episodes]
        return motion_stats(motions, space, horizon, std_floor)


def motion_stats(
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    space: ActionSpace,
    horizon: int,
    std_floor: float,
) -> NormStats:
    """Statistics of what a policy sees and does.

    Args:
        motions: per episode, raw state float[t, s] and actions float[t, e].
        space: the policy's action space. Statistics of actions that are relative to the state at
            the start of their chunk are over every step of every chunk that is inside its episode
            (openpi's `scripts/compute_norm_stats.py` repeats the last action after the end).
        horizon: number of steps H per chunk.
        std_floor: smallest standard deviation of an action.

    Raises:
        InputError: there is no sample, or one is not finite.
    """
    motions = [(space.state(state), space.absolute_actions(actions)) for state, actions in motions]
    # Absolute values first; those of relative actions are replaced.
    state = compute_stats(np.concatenate([state for state, _ in motions]))
    actions = compute_stats(np.concatenate([actions for _, actions in motions]), std_floor)
    # One dimension at a time: all chunks of all dimensions would be H times the data.
    relative = {
        dim: compute_stats(_relative(motions, dim, horizon), std_floor)
        for dim, delta in enumerate(space.delta_mask)
        if delta
    }
    return NormStats(state, _replaced(actions, relative))


def _relative(
    motions: Sequence[tuple[np.ndarray, np.ndarray]], dim: int, horizon: int
) -> np.ndarray:
    """float[n, 1]: one action dimension less the state at the start of each chunk."""
    # `ahead` steps after the start of a chunk, for every chunk that has such a step: [t - ahead].
    parts = [
        actions[ahead:, dim] - state[: len(state) - ahead, dim]
        for state, actions in motions
        for ahead in range(min(horizon, len(actions)))
    ]
    return np.concatenate(parts)[:, None]


def _replaced(stats: Stats, by: Mapping[int, Stats]) -> Stats:
    """Statistics of all dimensions with some replaced by those of one dimension each."""

    def values(name: str) -> np.ndarray:
        """One statistic, float64[e]."""
        found = getattr(stats, name).copy()
        for dim, one in by.items():
            found[dim] = getattr(one, name)[0]
        return found

    return Stats(*(values(name) for name in ("mean", "std", "q01", "q99")))
