"""Host values of the rollout: what a robot sees and what an episode was. NumPy only, no jax.

Axis letters: t control step, s state dimension, e action dimension, r rendered step, c camera,
h height, w width, k rollout of a group.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_jax.robot import Robot


@dataclass(frozen=True)
class RawObs:
    """One observation as the simulator gives it.

    Attributes:
        images: uint8[c, h, w, 3] RGB, one per camera of the robot, in its order. LIBERO's are
            turned by 180 degrees, as published checkpoints expect (openpi
            `examples/libero/main.py`).
        state: float32[s], proprioception as the robot's `state` names it.
        prompt: the language instruction.
        camera_mask: bool[c], False for a camera that is missing in this observation and must not
            be looked at; None where all are there.
    """

    images: np.ndarray
    state: np.ndarray
    prompt: str
    camera_mask: np.ndarray | None = None


@dataclass(frozen=True)
class Episode:
    """One finished episode, time-major, with only the images that were rendered.

    Attributes:
        task: name of the task, unique over suites.
        prompt: the language instruction.
        robot: what acted.
        init_hash: hexadecimal digest of the simulator state the episode started from.
        seed: seed of that initial state.
        images: uint8[r, c, h, w, 3] at the steps `image_steps`.
        image_steps: int32[r], increasing, each in [0, t).
        state: float32[t, s], proprioception before each action.
        actions: float32[t, e], as executed, within the robot's limits.
        chunk_start: bool[t], True where the policy looked and a new chunk began.
        success: whether the task's own predicate held at the end.
        optimizer_step: optimizer step of the parameters that acted; -1 for a demonstrator.
        error: why the simulator failed, or None. Such an episode says nothing of the policy.
    """

    task: str
    prompt: str
    robot: Robot
    init_hash: str
    seed: int
    images: np.ndarray
    image_steps: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    chunk_start: np.ndarray
    success: bool
    optimizer_step: int
    error: str | None = None

    def __len__(self) -> int:
        """Number of executed control steps t."""
        return len(self.actions)

    @property
    def reward(self) -> float:
        """The sparse reward: 1.0 for success, else 0.0."""
        return float(self.success)


def without_images(episode: Episode) -> Episode:
    """The episode as it is stored where nobody will look: a replay can make its images again."""
    return replace(episode, images=np.zeros(0, np.uint8), image_steps=np.zeros(0, np.int32))


@dataclass(frozen=True)
class Group:
    """K episodes of one policy from one initial state; errors are already left out."""

    episodes: tuple[Episode, ...]

    @property
    def rewards(self) -> np.ndarray:
        """float32[k], the outcome of each rollout."""
        return np.array([episode.reward for episode in self.episodes], np.float32)

    @property
    def uniform(self) -> bool:
        """All succeeded or all failed: every leave-one-out advantage is zero."""
        return bool(len(self.episodes) < 2 or np.ptp(self.rewards) == 0)


def digest(arrays: Sequence[np.ndarray]) -> str:
    """Hexadecimal sha256 over dtypes, shapes and bytes: equal exactly where the arrays are."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
