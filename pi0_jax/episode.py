"""Host values of a rollout: observations, episodes and groups. NumPy only, no jax.

Axis letters: t control step, s state dimension, e action dimension, r rendered step, c camera,
h height, w width, k rollout of a group, n policy call, K flow step, H action horizon, d padded
action dimension.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_jax.robot import Robot


@dataclass(frozen=True)
class RawObs:
    """One observation, as the simulator or the robot gives it.

    Attributes:
        images: uint8[c, h, w, 3] RGB, one per camera of the robot, in its order. LIBERO's are
            turned by 180 degrees, as published checkpoints expect (openpi
            `examples/libero/main.py`).
        state: float32[s], proprioception as the robot's `state` names it.
        prompt: the language instruction.
        camera_mask: bool[c], False for a camera whose image is missing here and must not be used;
            None if all images are there.
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
        robot: the robot that acted.
        init_hash: hexadecimal digest of the simulator state at the start of the episode.
        seed: seed of that initial state.
        images: uint8[r, c, h, w, 3] at the steps `image_steps`.
        image_steps: int32[r], increasing, each in [0, t).
        state: float32[t, s], proprioception before each action.
        actions: float32[t, e], as executed, within the robot's limits.
        chunk_start: bool[t], True at steps where the policy was called and a new chunk began.
        success: whether the task's own success predicate was true at the end.
        optimizer_step: optimizer step of the parameters that acted; -1 for a demonstrator.
        error: why the simulator failed, or None. An episode with an error is neither a success nor
            a failure of the policy.
        chain: float32[n, K + 1, H, d], each chunk from its noise to the normalised actions, where a
            stochastic sampler drew it (`model/flow_sde.py`) and a step was executed; else None.
            Call i is that of the i-th True of `chunk_start`.
        chain_log_prob: float32[n, K, H, e], log density of each step's result when it was drawn;
            None without a chain.
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
    chain: np.ndarray | None = None
    chain_log_prob: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of executed control steps t."""
        return len(self.actions)

    @property
    def reward(self) -> float:
        """The sparse reward: 1.0 for success, else 0.0."""
        return float(self.success)


def without_images(episode: Episode) -> Episode:
    """The episode without its images, to save space; a replay can render them again."""
    return replace(episode, images=np.zeros(0, np.uint8), image_steps=np.zeros(0, np.int32))


@dataclass(frozen=True)
class Group:
    """K episodes of one policy from one initial state; errors are already left out."""

    episodes: tuple[Episode, ...]

    @property
    def rewards(self) -> np.ndarray:
        """float32[k], the reward of each rollout."""
        return np.array([episode.reward for episode in self.episodes], np.float32)

    @property
    def uniform(self) -> bool:
        """Whether all succeeded or all failed, so that every leave-one-out advantage is zero."""
        return bool(len(self.episodes) < 2 or np.ptp(self.rewards) == 0)


def success_rate(episodes: Sequence[Episode]) -> float:
    """Share of successes among the episodes without an error; NaN where there is none."""
    rewards = [episode.reward for episode in episodes if episode.error is None]
    return float(np.mean(rewards)) if rewards else float("nan")


def success_by_task(episodes: Sequence[Episode]) -> dict[str, float]:
    """`success_rate` of each task; one whose simulator always failed is NaN, not missing."""
    tasks = dict.fromkeys(episode.task for episode in episodes)
    return {task: success_rate([e for e in episodes if e.task == task]) for task in tasks}


def digest(arrays: Sequence[np.ndarray]) -> str:
    """Hexadecimal sha256 of dtypes, shapes and bytes: equal if and only if the arrays are."""
    hasher = hashlib.sha256()
    for array in arrays:
        # Without dtype and shape, arrays with the same bytes could be taken for each other.
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
