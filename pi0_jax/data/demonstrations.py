"""What training needs of demonstrations: their statistics, and windows taken by number.

Axis letters: t control step, H action horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.chunk_stats import motion_stats
from pi0_jax.data.normalize import NormStats
from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import WindowConfig, count, cut_windows, take
from pi0_jax.episode import Episode
from pi0_jax.types import Batch


class WindowSource(Protocol):
    """Training windows that are taken by number, from memory or from disk."""

    def __len__(self) -> int:
        """Number of windows."""
        ...

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Numbers of windows for a batch, int[size], with repetition."""
        ...

    def take(self, indices: np.ndarray, seen: np.ndarray | None = None) -> Batch:
        """The windows at int[m] `indices`, as host arrays.

        Args:
            indices: numbers of windows.
            seen: bool[m], the windows whose pictures this host needs, one of several that share a
                batch; the pictures of others may be black. None for all.
        """
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

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Numbers of windows, int[size]: each equally likely."""
        return rng.integers(len(self), size=size)

    def take(self, indices: np.ndarray, seen: np.ndarray | None = None) -> Batch:
        """The windows at int[m] `indices`, all with their pictures."""
        del seen
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
