"""LeRobot folders as demonstrations: tables in memory, pictures read from disk when needed.

Versions 2.0 and 2.1 have one file per episode, 3.0 has many episodes per file. Cameras and columns
are found by the names that openpi and LeRobot use. Needs pyarrow:
`pip install -e '.[lerobot]'`.

Axis letters: t control step, n window, H action horizon, c camera, s state, e action dimension.
"""

import hashlib
import math
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.cameras import find_cameras
from pi0_jax.data.chunk_stats import motion_stats
from pi0_jax.data.lerobot.files import Layout, first_of, open_layout
from pi0_jax.data.lerobot.findings import Finding, refuse
from pi0_jax.data.lerobot.frame_cache import FrameCache
from pi0_jax.data.lerobot.read import ACTIONS, STATE, read_recordings
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.normalize import NormStats
from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import assemble, chunks
from pi0_jax.episode import RawObs, digest
from pi0_jax.errors import InputError
from pi0_jax.robot import Dimension, Robot, named, numbered
from pi0_jax.types import Batch

_VISUAL = ("image", "video")
_FRAMES_VERSION = 1  # of how pictures are decoded and resized: kept frames of another are not used


@dataclass(frozen=True)
class LeRobotFolder:
    """The episodes of a LeRobot folder that demonstrate the tasks to learn.

    Attributes:
        path: the folder.
        robot: the robot of these data, as the folder describes it; its rate is the folder's fps.
        recordings: at least one episode.
        of_all: number of episodes in the folder, with those of other tasks.
        instructions: of all tasks that its meta/ lists.
        findings: what is wrong with episodes that are not among the recordings, and notes.
    """

    path: Path
    robot: Robot
    recordings: tuple[Recording, ...]
    of_all: int
    instructions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        """One line for the log."""
        steps = sum(map(len, self.recordings))
        return f"{self.path}: {len(self.recordings)} of {self.of_all} episodes, {steps} steps"

    def windows(
        self, transforms: Transforms, horizon: int, weight: float = 0.0, skip_short: bool = False
    ) -> "LeRobotWindows":
        """One window per control step that has a picture; arguments as in `Demonstrations`.

        Raises:
            InputError: no episode has a whole window and `skip_short` leaves out the others.
        """
        for recording in self.recordings:
            if recording.cache is not None:
                recording.cache.keep(transforms.image_size)
        starts = [one.starts(horizon, skip_short=skip_short) for one in self.recordings]
        ends, steps = np.cumsum([len(some) for some in starts]), np.concatenate(starts)
        if not len(steps):
            raise InputError(f"{self.path}: no episode has a whole window of {horizon} steps")
        return LeRobotWindows(self.recordings, ends, steps, transforms, horizon, weight)

    def stats(self, space: ActionSpace, horizon: int, std_floor: float) -> NormStats:
        """Statistics over every step."""
        motions = [(recording.state, recording.actions) for recording in self.recordings]
        return motion_stats(motions, space, horizon, std_floor)

    def check_robot(self, robot: Robot) -> None:
        """Checks that every state and action is as wide as the robot's.

        The rates are not compared: published LIBERO data has 10 fps for steps of 20 Hz.

        Raises:
            InputError: a width differs.
        """
        state, actions = len(robot.state), len(robot.actions)
        for recording in self.recordings:
            found = recording.state.shape[1:], recording.actions.shape[1:]
            if found != ((state,), (actions,)):
                raise InputError(
                    f"{self.path}: expected states of {state} and actions of {actions} "
                    f"dimensions, as {robot.name} has, got {found[0]} and {found[1]}"
                )

    def only(self, prompts: Collection[str]) -> "LeRobotFolder":
        """The folder with the episodes of these instructions alone.

        Raises:
            InputError: there is none.
        """
        recordings = [r for r in self.recordings if set(r.prompts) <= set(prompts)]
        if not recordings:
            raise InputError(
                f"{self.path}: none of its {self.of_all} episodes has one of the instructions "
                f"{sorted(prompts)}; it has {sorted(self.instructions)[:5]} and so on"
            )
        return replace(self, recordings=tuple(recordings))

    def cached(self, folder: Path, most_bytes: int) -> "LeRobotFolder":
        """The same data, whose decoded frames are kept on disk for this run and later ones.

        Args:
            folder: where the frames are kept, for any number of data sets.
            most_bytes: room that those of this one may take.
        """
        lengths = [len(recording) for recording in self.recordings]
        firsts = np.cumsum([0, *lengths[:-1]]).tolist()
        cache = FrameCache(
            folder, self._frames_key(), sum(lengths), len(self.robot.cameras), most_bytes
        )
        recordings = [
            replace(recording, cache=cache, first_frame=first)
            for recording, first in zip(self.recordings, firsts, strict=True)
        ]
        return replace(self, recordings=tuple(recordings))

    def _frames_key(self) -> str:
        """Names the frames: which episodes, of which files as they now are, by which cameras."""
        episodes = [(recording.number, len(recording)) for recording in self.recordings]
        files = [
            (str(path.relative_to(self.path)), path.stat().st_size, path.stat().st_mtime_ns)
            # Of meta/, because it says at which second of a video an episode begins.
            for part in ("data", "videos", "meta")
            for path in sorted((self.path / part).rglob("[!.]*.*"))
        ]
        said = repr((_FRAMES_VERSION, episodes, files, self.robot.cameras))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """Digest of all states and actions: a run that is resumed must find the same data."""
        return digest([x for r in self.recordings for x in (r.state, r.actions)])

    @property
    def labels_digest(self) -> str:
        """Digest of words, outcomes and which pictures are new; pictures may be many GB."""
        hasher = hashlib.sha256()
        for one in self.recordings:
            starts = one.starts(1, skip_short=False).tolist()
            # Nearly every episode has one instruction for all of its steps.
            words = [(text, len(list(steps))) for text, steps in groupby(one.prompts)]
            hasher.update(repr((words, one.success, one.advantage, starts)).encode())
        return hasher.hexdigest()


def _observation(recording: Recording, step: int, size: int, seen: bool) -> RawObs:
    """What the robot saw; black pictures where only the rest is needed."""
    if seen:
        return recording.observation(step, size)
    black = np.zeros((len(recording.pictures), size, size, 3), np.uint8)
    return RawObs(black, recording.state[step], recording.prompts[step])


def _readers() -> ThreadPoolExecutor:
    # A container or a scheduler may have given this process fewer cores than there are.
    linux = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="pictures")


@dataclass(frozen=True)
class LeRobotWindows:
    """Windows of a LeRobot folder, read from disk when they are taken.

    Attributes:
        recordings: the episodes.
        ends: int[episode], number of windows up to the end of each.
        steps: int[n], the step of its episode at which each window starts.
        transforms: transforms of the policy that is trained.
        horizon: number of actions H per window.
        weight: weight of every window in the conditional branch.
        readers: threads that read and decode; one per core is enough, because decoding a picture
            does not hold the GIL. They keep their videos open.
    """

    recordings: Sequence[Recording]
    ends: np.ndarray
    steps: np.ndarray
    transforms: Transforms
    horizon: int
    weight: float
    readers: ThreadPoolExecutor = field(default_factory=_readers)

    def __len__(self) -> int:
        """Number of windows."""
        return int(self.ends[-1])

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Numbers of windows, int[size]: each equally likely."""
        return rng.integers(len(self), size=size)

    def take(self, indices: np.ndarray, seen: np.ndarray | None = None) -> Batch:
        """The windows at int[m] `indices`; several threads read the pictures of those `seen`.

        Raises:
            InputError: a picture cannot be read.
        """
        # The episode of each window, and the control step in it: int[m] each.
        owners, steps = np.searchsorted(self.ends, indices, side="right"), self.steps[indices]
        found = [self.recordings[owner] for owner in owners]
        sizes = [self.transforms.image_size] * len(found)
        shown = [True] * len(found) if seen is None else seen.tolist()
        observations = list(self.readers.map(_observation, found, steps.tolist(), sizes, shown))
        cut = [
            chunks(recording.actions, step, self.horizon)
            for recording, step in zip(found, steps[:, None], strict=True)
        ]
        # [1, H, e] and [1, H] per window, to [m, H, e] and [m, H].
        actions, mask = (np.concatenate(parts) for parts in zip(*cut, strict=True))
        weights = np.full(len(indices), self.weight, np.float32)
        return assemble(observations, actions, mask, weights, self.transforms)


def open_lerobot(path: Path, cameras: tuple[str, ...], prompts: Collection[str]) -> LeRobotFolder:
    """Opens a LeRobot folder and keeps the episodes with these instructions.

    Args:
        path: the folder that holds meta/ and data/.
        cameras: the policy's cameras, in its order; the folder's are found by name and view.
        prompts: instructions of the tasks to learn; episodes with others are left out.

    Raises:
        InputError: there is no such folder, its version is unknown, a file, column or camera is
            missing or damaged, it has fewer episodes or steps than its meta/ states, or it has
            none of these tasks.
    """
    folder = read_lerobot(path, cameras)
    refuse(folder.findings, path)
    return folder.only(prompts)


def read_lerobot(path: Path, cameras: tuple[str, ...] | None) -> LeRobotFolder:
    """Reads a LeRobot folder with all its episodes, and with a list of those that are damaged.

    Args:
        path: the folder that holds meta/ and data/.
        cameras: as in `open_lerobot`; None for all that the folder has.

    Raises:
        InputError: there is no such folder, its version is unknown, a file of its meta/ or a
            camera is missing, or no episode is whole.
    """
    layout = open_layout(path)
    visual = tuple(name for name, kind in layout.features.items() if kind in _VISUAL)
    keys = visual if cameras is None else find_cameras(cameras, visual, str(path))
    recordings, findings = read_recordings(layout, keys)
    if not recordings:
        refuse(findings, path)
        raise InputError(f"{path}: expected at least one episode, it has none")
    robot = _robot(layout, keys, recordings[0])
    tasks = tuple(dict.fromkeys(layout.tasks.values()))
    count = len(layout.episodes)
    return LeRobotFolder(path, robot, tuple(recordings), count, tasks, tuple(findings))


def _robot(layout: Layout, cameras: tuple[str, ...], recording: Recording) -> Robot:
    """The robot that the folder describes; dimensions without names are numbered."""

    def dimensions(names: Sequence[str], kind: str, values: np.ndarray) -> tuple[Dimension, ...]:
        """The dimensions of `values`, float[t, d], whose column has one of these names."""
        known = layout.dimensions.get(first_of(names, layout.features, layout.path), ())
        width = math.prod(values.shape[1:])
        # Some folders name an axis ("motors") instead of its numbers, or use a name twice.
        usable = len(set(known)) == width
        return named(known, "") if usable else numbered(kind, width)

    names = tuple(name.removeprefix("observation.images.") for name in cameras)
    return Robot(
        name=layout.robot_type,
        # A folder without pictures still has statistics.
        cameras=names or ("none",),
        state=dimensions(STATE, "state", recording.state),
        actions=dimensions(ACTIONS, "action", recording.actions),
        control_hz=layout.fps,
    )
