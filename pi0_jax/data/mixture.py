"""Several LeRobot folders of one robot as one source of windows, drawn by weight and task.

A folder is drawn from as its weight says, however long it is. Within a folder every step counts the
same, or with `balance_tasks` every task does. What an episode is worth to the conditional branch
may follow its outcome, so that a folder with failures trains both branches without a simulator.

Axis letters: n episode, m chosen window, H action horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.lerobot.folder import LeRobotFolder, LeRobotWindows
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.normalize import NormStats
from pi0_jax.data.stats import folder_stats
from pi0_jax.data.transforms import Transforms
from pi0_jax.errors import InputError
from pi0_jax.types import Batch

ALIKE, SUCCESS, ADVANTAGE = "none", "success", "advantage"
WORTHS = (ALIKE, SUCCESS, ADVANTAGE)
"""What an episode is worth: all the same; 1 or 0 by `success`; `advantages` where positive."""


@dataclass(frozen=True)
class Mixture:
    """Demonstrations of several folders.

    Attributes:
        folders: at least one, all of one robot.
        shares: how often each is drawn from, as parts of their sum.
        balance_tasks: draw every task of a folder equally often.
        worth: one of `WORTHS`.
    """

    folders: tuple[LeRobotFolder, ...]
    shares: tuple[float, ...]
    balance_tasks: bool = False
    worth: str = ALIKE

    def __str__(self) -> str:
        """One line for the log."""
        total = sum(self.shares)
        parts = (
            f"{folder}" if len(self.folders) == 1 else f"{share / total:.0%} {folder}"
            for folder, share in zip(self.folders, self.shares, strict=True)
        )
        return "; ".join(parts)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The episodes of all folders in order, n in all."""
        return tuple(one for folder in self.folders for one in folder.recordings)

    @property
    def digest(self) -> str:
        """Digest of all states and actions."""
        return "+".join(folder.digest for folder in self.folders)

    @property
    def labels_digest(self) -> str:
        """Digest of words and outcomes, as of one folder."""
        return "+".join(folder.labels_digest for folder in self.folders)

    def windows(
        self, transforms: Transforms, horizon: int, weight: float = 0.0, skip_short: bool = False
    ) -> "MixedWindows":
        """One window per control step; arguments as in `Demonstrations`, and `weight` is not used.

        Raises:
            InputError: no episode has a whole window, or their outcomes are not known.
        """
        # As one folder: its windows are found and read as those of any other.
        joined = replace(self.folders[0], recordings=self.recordings)
        windows = joined.windows(transforms, horizon, weight, skip_short)
        lengths = np.diff(windows.ends, prepend=0)
        return MixedWindows(windows, self._chances(lengths), self.worths())

    def stats(self, space: ActionSpace, horizon: int, std_floor: float) -> NormStats:
        """Statistics over every step of every folder, whatever its share."""
        return folder_stats(self.folders, space, horizon, std_floor)

    def worths(self) -> np.ndarray:
        """Weight of each episode in the conditional branch, float32[n].

        Episodes of a folder that says nothing of outcomes are demonstrations and count 1.

        Raises:
            InputError: no folder says anything, or no episode is worth anything.
        """
        recordings = self.recordings
        if self.worth == ALIKE:
            return np.ones(len(recordings), np.float32)
        known = [getattr(one, self.worth) for one in recordings]
        if all(value is None for value in known):
            raise InputError(
                f"demonstrations.weights is {self.worth!r}, and no folder has the column "
                f"{'advantages' if self.worth == ADVANTAGE else 'success'}"
            )
        worth = np.array([1.0 if value is None else max(value, 0.0) for value in known])
        positive = worth > 0
        if not positive.any():
            raise InputError(
                f"demonstrations.weights is {self.worth!r}, and no episode is worth anything: "
                "none succeeded"
            )
        # Mean 1 over those that count, so that the learning rate keeps its meaning.
        return (worth / worth[positive].mean()).astype(np.float32)

    def _chances(self, lengths: np.ndarray) -> np.ndarray:
        """The probability that a window is one of each episode's, float64[n]; int[n] windows."""
        total, parts, first = sum(self.shares), [], 0
        for folder, share in zip(self.folders, self.shares, strict=True):
            own = lengths[first : first + len(folder.recordings)].astype(float)
            first += len(own)
            if self.balance_tasks:
                own = _balanced(own, [one.prompts[0] for one in folder.recordings])
            if not own.sum():
                raise InputError(f"{folder.path}: no episode has a whole window")
            parts.append(share / total * own / own.sum())
        return np.concatenate(parts)


@dataclass(frozen=True)
class MixedWindows:
    """Windows that are drawn by episode, and then evenly within it.

    Attributes:
        windows: of all episodes, in order.
        chances: float64[n], probability of each episode; they sum to 1.
        worths: float32[n], weight of each episode's windows in the conditional branch.
    """

    windows: LeRobotWindows
    chances: np.ndarray
    worths: np.ndarray

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Numbers of windows, int[size], with repetition."""
        ends = np.cumsum(self.chances)
        # Over the last end, because rounding may leave it below 1.
        owners = np.searchsorted(ends, rng.random(size) * ends[-1], side="right")
        last = self.windows.ends[owners]
        first = np.concatenate([[0], self.windows.ends[:-1]])[owners]
        return first + (rng.random(size) * (last - first)).astype(np.int64)

    def take(self, indices: np.ndarray, seen: np.ndarray | None = None) -> Batch:
        """The windows at int[m] `indices`; of those `seen`, the pictures."""
        owners = np.searchsorted(self.windows.ends, indices, side="right")
        return replace(self.windows.take(indices, seen), weight=self.worths[owners])


def _balanced(lengths: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
    """The lengths float[n], scaled so that those of each task have one sum."""
    _, number = np.unique(tasks, return_inverse=True)
    sums = np.bincount(number, lengths)
    return np.divide(lengths, sums[number], out=np.zeros_like(lengths), where=lengths > 0)
