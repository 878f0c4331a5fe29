"""Host values of the rollout: what a robot sees and what an episode was. NumPy only, no jax.

Axis letters: t control step, s state dimension, e action dimension, r rendered step, c camera,
h height, w width, k rollout of a group.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.robot import Robot, robot_from_dict

FORMAT_VERSION = 2


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


_RAGGED = ("images", "image_steps", "state", "actions", "chunk_start")
_SCALARS = tuple(f.name for f in fields(Episode) if f.name not in (*_RAGGED, "robot"))
# What NumPy, zipfile and zlib raise on files that are cut, damaged or of another kind.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


def save_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Writes episodes into one compressed .npz: ragged fields end to end, with their lengths.

    The file appears under its name only when it is whole. An empty sequence is allowed.
    """
    arrays = {"format_version": np.array(FORMAT_VERSION)}
    for name in _SCALARS:
        values = [getattr(episode, name) for episode in episodes]
        # NumPy has no "no string": an empty one stands for "no error".
        arrays[name] = np.array(["" if value is None else value for value in values])
    arrays["robot"] = np.array([json.dumps(asdict(episode.robot)) for episode in episodes])
    for name in _RAGGED:
        parts = [getattr(episode, name) for episode in episodes]
        arrays[f"{name}_length"] = np.array([len(part) for part in parts], np.int64)
        arrays[name] = np.concatenate(parts) if parts else np.zeros(0)
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    partial.replace(path)


def load_episodes(path: Path) -> list[Episode]:
    """Reads what `save_episodes` wrote; nothing is unpickled.

    Raises:
        InputError: the file is missing, is not such a file, or has another format version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        version = int(arrays["format_version"])
        if version == FORMAT_VERSION:
            parts = {name: _split(arrays[name], arrays[f"{name}_length"]) for name in _RAGGED}
            return [_episode(arrays, parts, index) for index in range(len(arrays["seed"]))]
    except _UNREADABLE as error:
        raise InputError(f"{path}: expected an episode file (.npz), got: {error!r}") from error
    raise InputError(f"{path}: expected episode format {FORMAT_VERSION}, got {version}")


def _split(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(array, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _episode(
    arrays: dict[str, np.ndarray], parts: dict[str, list[np.ndarray]], index: int
) -> Episode:
    values: dict[str, Any] = {name: arrays[name][index].item() for name in _SCALARS}
    values |= {name: parts[name][index] for name in _RAGGED}
    values["error"] = values["error"] or None
    values["robot"] = robot_from_dict(json.loads(arrays["robot"][index].item()))
    return Episode(**values)
