"""LeRobot folders as demonstrations: tables in memory, pictures read from disk when needed.

Versions 2.0 and 2.1 have one file per episode, 3.0 has many episodes per file. Cameras and columns
are found by the names that openpi and LeRobot use. Needs pyarrow:
`pip install 'pi0_jax[lerobot]'`.

Axis letters: t control step, n window, H action horizon, c camera, s state, e action dimension.
"""

import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.cameras import find_cameras
from pi0_jax.data.chunk_stats import motion_stats
from pi0_jax.data.lerobot.files import Layout, first_of, open_layout, read_columns
from pi0_jax.data.lerobot.pictures import ParquetPictures, Pictures, VideoPictures
from pi0_jax.data.normalize import NormStats
from pi0_jax.data.transforms import Transforms, resize_with_pad
from pi0_jax.data.windows import assemble, chunks
from pi0_jax.episode import RawObs, digest
from pi0_jax.errors import InputError
from pi0_jax.robot import Dimension, Robot, named, numbered
from pi0_jax.types import Batch

# Names of the columns in openpi's own conversions, and by LeRobot's convention.
_STATE = ("observation.state", "state")
_ACTIONS = ("action", "actions")
_VISUAL = ("image", "video")


@dataclass(frozen=True)
class Recording:
    """One episode, with its pictures still on disk.

    Attributes:
        prompts: t instructions; nearly always the same one.
        state: float32[t, s], before each action.
        actions: float32[t, e].
        pictures: one reader per camera, c in all.
    """

    prompts: tuple[str, ...]
    state: np.ndarray
    actions: np.ndarray
    pictures: tuple[Pictures, ...]

    def __len__(self) -> int:
        """Number of control steps t."""
        return len(self.actions)

    def observation(self, step: int, size: int) -> RawObs:
        """What the robot saw before control step `step`; reads its pictures.

        Args:
            step: from 0.
            size: side [px] of the network's images; the cameras' own sizes may differ.
        """
        images = [resize_with_pad(pictures.read(step), size) for pictures in self.pictures]
        return RawObs(np.stack(images), self.state[step], self.prompts[step])


@dataclass(frozen=True)
class LeRobotFolder:
    """The episodes of a LeRobot folder that demonstrate the tasks to learn.

    Attributes:
        path: the folder.
        robot: the robot of these data, as the folder describes it; its rate is the folder's fps.
        recordings: at least one episode.
        of_all: number of episodes in the folder, with those of other tasks.
    """

    path: Path
    robot: Robot
    recordings: tuple[Recording, ...]
    of_all: int

    def __str__(self) -> str:
        """One line for the log."""
        steps = sum(map(len, self.recordings))
        return f"{self.path}: {len(self.recordings)} of {self.of_all} episodes, {steps} steps"

    def windows(
        self, transforms: Transforms, horizon: int, weight: float = 0.0, skip_short: bool = False
    ) -> "LeRobotWindows":
        """One window per control step; arguments as in `Demonstrations`.

        Raises:
            InputError: no episode has a whole window and `skip_short` leaves out the others.
        """
        # A window that starts in the last H - 1 steps reaches past the end.
        cut = horizon - 1 if skip_short else 0
        lengths = np.array([max(0, len(recording) - cut) for recording in self.recordings])
        if not lengths.sum():
            raise InputError(f"{self.path}: no episode has a whole window of {horizon} steps")
        return LeRobotWindows(self.recordings, np.cumsum(lengths), transforms, horizon, weight)

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

    @property
    def digest(self) -> str:
        """Digest of all states and actions: a run that is resumed must find the same data."""
        return digest([x for r in self.recordings for x in (r.state, r.actions)])


@dataclass(frozen=True)
class LeRobotWindows:
    """Windows of a LeRobot folder, read from disk when they are taken.

    Attributes:
        recordings: the episodes.
        ends: int[episode], number of windows up to the end of each.
        transforms: transforms of the policy that is trained.
        horizon: number of actions H per window.
        weight: weight of every window in the conditional branch.
    """

    recordings: Sequence[Recording]
    ends: np.ndarray
    transforms: Transforms
    horizon: int
    weight: float

    def __len__(self) -> int:
        """Number of windows."""
        return int(self.ends[-1])

    def take(self, indices: np.ndarray) -> Batch:
        """The windows at int[m] `indices`; several threads read the pictures.

        Raises:
            InputError: a picture cannot be read.
        """
        # The episode of each window, and the control step in it: int[m] each.
        owners = np.searchsorted(self.ends, indices, side="right")
        found = [self.recordings[owner] for owner in owners]
        steps = indices - np.concatenate([[0], self.ends[:-1]])[owners]
        # Threads are enough: decoding a picture does not hold the GIL.
        with ThreadPoolExecutor() as pool:
            sizes = [self.transforms.image_size] * len(found)
            observations = list(pool.map(Recording.observation, found, steps.tolist(), sizes))
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
    layout = open_layout(path)
    visual = [name for name, kind in layout.features.items() if kind in _VISUAL]
    keys = find_cameras(cameras, tuple(visual), str(path))
    recordings = [r for r in _recordings(layout, keys) if set(r.prompts) <= set(prompts)]
    if not recordings:
        raise InputError(
            f"{path}: none of its {len(layout.episodes)} episodes has one of the instructions "
            f"{sorted(prompts)}; it has {sorted(layout.tasks.values())[:5]} and so on"
        )
    robot = _robot(layout, keys, recordings[0])
    return LeRobotFolder(path, robot, tuple(recordings), len(layout.episodes))


def _robot(layout: Layout, cameras: tuple[str, ...], recording: Recording) -> Robot:
    """The robot that the folder describes; dimensions without names are numbered."""

    def dimensions(names: Sequence[str], kind: str, values: np.ndarray) -> tuple[Dimension, ...]:
        """The dimensions of `values`, float[t, d], whose column has one of these names."""
        known = layout.dimensions.get(first_of(names, layout.features, layout.path), ())
        width = math.prod(values.shape[1:])
        # Some folders name an axis ("motors") instead of its numbers, or use a name twice.
        usable = len(set(known)) == width
        return named(known, "") if usable else numbered(kind, width)

    return Robot(
        name=layout.robot_type,
        cameras=tuple(name.removeprefix("observation.images.") for name in cameras),
        state=dimensions(_STATE, "state", recording.state),
        actions=dimensions(_ACTIONS, "action", recording.actions),
        control_hz=layout.fps,
    )


def _recordings(layout: Layout, cameras: Sequence[str]) -> list[Recording]:
    """Every episode of the folder, in order, file by file."""
    found: dict[int, Recording] = {}
    # A version 3 file holds many episodes and is read once.
    for file in dict.fromkeys(episode.data for episode in layout.episodes.values()):
        found |= _of_file(layout, file, cameras)
    if missing := sorted(set(layout.episodes) - set(found)):
        raise InputError(f"{layout.path}: no data of the episodes {missing[:10]}")
    return [found[index] for index in sorted(found)]


def _of_file(layout: Layout, file: Path, cameras: Sequence[str]) -> dict[int, Recording]:
    """The episodes of one data file by number."""
    state, actions = (first_of(names, layout.features, layout.path) for names in (_STATE, _ACTIONS))
    in_table = [camera for camera in cameras if layout.features[camera] == "image"]
    wanted = (state, actions, "timestamp", "episode_index", "task_index")
    columns = read_columns(file, wanted, beside=in_table)
    owner = columns["episode_index"].astype(int)
    numbers, firsts, lengths = np.unique(owner, return_index=True, return_counts=True)
    made = {}
    for number, first, length in zip(numbers.tolist(), firsts, lengths, strict=True):
        # `_check_rows` refuses a file in which other episodes' rows lie between these.
        rows = slice(first, first + length)
        _check_rows(layout, file, number, owner[rows])
        part = {name: values[rows] for name, values in columns.items()}
        made[number] = Recording(
            tuple(layout.task(int(task)) for task in part["task_index"]),
            part[state].astype(np.float32),
            part[actions].astype(np.float32),
            tuple(_pictures(layout, number, int(first), part["timestamp"], c) for c in cameras),
        )
    return made


def _check_rows(layout: Layout, file: Path, number: int, owner: np.ndarray) -> None:
    episode = layout.episodes.get(number)
    expected = "no such episode"
    if episode is not None:
        whole = len(owner) == episode.length and (owner == number).all()
        if whole and episode.data == file:
            return
        expected = f"{episode.length} steps in a row in {episode.data.name}"
    raise InputError(
        f"{file}: episode {number}: the folder's meta/ says {expected}, this file has "
        f"{len(owner)}; the folder is incomplete or damaged"
    )


def _pictures(
    layout: Layout, number: int, first_row: int, timestamps: np.ndarray, camera: str
) -> Pictures:
    episode = layout.episodes[number]
    if layout.features[camera] == "image":
        return ParquetPictures(episode.data, camera, first_row)
    video = episode.videos[camera]
    if not video.path.is_file():
        raise InputError(f"{video.path}: no such file; the folder is incomplete")
    return VideoPictures(video.path, video.start + timestamps.astype(float), layout.fps)
