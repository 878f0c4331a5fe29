"""The files of a LeRobot folder: its versions, tasks, episodes and tables.

meta/info.json           version, fps, features, templates of the paths below
meta/tasks.jsonl         2.x: number and text of every task; 3.0: meta/tasks.parquet
meta/episodes.jsonl      2.x: number and length of every episode; 3.0: meta/episodes/*/*.parquet
data/**.parquet          one row per control step
videos/**.mp4            of cameras whose pictures are not in the table
"""

import math
import re
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_jax.data.lerobot.tables import read_table
from pi0_jax.errors import InputError
from pi0_jax.inside import file_inside
from pi0_jax.json_file import parse, read_object
from pi0_jax.plain_file import read_text

_WIDTH = re.compile(r"(0?\d)?d?")
_VERSIONS = ("v2.0", "v2.1", "v3.0")
# pandas' name of an index without a name: LeRobot 0.4 keeps the text of a task there.
_TASK_TEXT = ("task", "__index_level_0__")


@dataclass(frozen=True)
class Video:
    """A video file, and the second in it at which an episode starts."""

    path: Path
    start: float


@dataclass(frozen=True)
class EpisodeFiles:
    """One episode: its number of control steps, the file of its rows, and one video per camera."""

    length: int
    data: Path
    videos: Mapping[str, Video]


@dataclass(frozen=True)
class Layout:
    """A LeRobot folder without its tables.

    Attributes:
        path: the folder.
        fps: control steps per second.
        features: column or camera -> its dtype, such as "float32", "image" or "video".
        tasks: number -> instruction.
        episodes: number -> episode.
        dimensions: column -> the names of its numbers, if the folder has them.
        robot_type: the folder's name of the robot; "unknown" if there is none.
    """

    path: Path
    fps: float
    features: Mapping[str, str]
    tasks: Mapping[int, str]
    episodes: Mapping[int, EpisodeFiles]
    dimensions: Mapping[str, tuple[str, ...]]
    robot_type: str

    def task(self, number: int) -> str:
        """Returns the instruction with this number.

        Raises:
            InputError: there is none.
        """
        if number not in self.tasks:
            raise InputError(f"{self.path}: meta/ has no task {number}, which data/ names")
        return self.tasks[number]


def open_layout(path: Path) -> Layout:
    """Reads meta/.

    Raises:
        InputError: it is no LeRobot folder, its version is unknown, or a file is missing or
            damaged.
    """
    try:
        info = read_object(path / "meta" / "info.json")
        version = info["codebase_version"]
        if version not in _VERSIONS:
            raise InputError(f"{path}: expected LeRobot {', '.join(_VERSIONS)}, got {version!r}")
        features = {name: str(feature["dtype"]) for name, feature in info["features"].items()}
        videos = [name for name, kind in features.items() if kind == "video"]
        # 2.1 differs from 2.0 only in statistics per episode, which are not read.
        new = version == "v3.0"
        tasks = _tasks_v3(path) if new else _tasks_v2(path)
        episodes = (_episodes_v3 if new else _episodes_v2)(path, info, videos)
        dimensions = {name: _names(f.get("names")) for name, f in info["features"].items()}
        robot_type = str(info.get("robot_type") or "unknown")
        fps = float(info["fps"])
        layout = Layout(path, fps, features, tasks, episodes, dimensions, robot_type)
        expected = int(info["total_episodes"])
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        # Those of the system name the file.
        said = str(error) if isinstance(error, OSError) else repr(error)
        raise InputError(f"{path}: expected a LeRobot folder with meta/: {said}") from error
    # Checked outside the `try`: these messages say more than the general one.
    if not 0 < layout.fps < math.inf:
        raise InputError(f"{path}: expected a positive fps in meta/info.json, got {layout.fps}")
    if len(layout.episodes) != expected:
        raise InputError(
            f"{path}: meta/info.json counts {expected} episodes, {len(layout.episodes)} are "
            "listed; the folder is incomplete"
        )
    return layout


def _names(entry: Any) -> tuple[str, ...]:
    """LeRobot's `names` of a feature: a list, a list of lists, a dict of lists, or null."""
    if isinstance(entry, str):
        return (entry,)
    parts = entry.values() if isinstance(entry, Mapping) else entry or ()
    return tuple(name for part in parts for name in _names(part))


def first_of(names: Sequence[str], present: Collection[str], path: Path) -> str:
    """Returns the first of these names that is present.

    Raises:
        InputError: none of them is.
    """
    for name in names:
        if name in present:
            return name
    raise InputError(f"{path}: expected one of {list(names)}, got {sorted(present)}")


def _lines(file: Path) -> list[dict[str, Any]]:
    return [parse(line) for line in read_text(file).splitlines() if line.strip()]


def _named(path: Path, info: Mapping[str, Any], key: str, **values: str | int) -> Path:
    """The file that a template of info.json names.

    Raises:
        InputError: the template asks for more than a value and its digits, or leaves the folder.
    """
    template, where = info[key], f"{path}/meta/info.json: {key}"
    if not isinstance(template, str):
        raise InputError(f"{where}: expected a path with fields, got {template!r:.80}")
    for _, name, width, conversion in string.Formatter().parse(template):
        if name is None:
            continue  # text behind the last field
        # Anything else could ask for attributes, or for as many letters as the memory holds.
        if name not in values or conversion or not _WIDTH.fullmatch(width or ""):
            raise InputError(
                f"{where}: expected fields such as {{episode_index:06d}} for "
                f"{', '.join(values)}, got {template!r:.80}"
            )
    return file_inside(path, template.format(**values), where)


def _tasks_v2(path: Path) -> dict[int, str]:
    return {int(x["task_index"]): str(x["task"]) for x in _lines(path / "meta" / "tasks.jsonl")}


def _tasks_v3(path: Path) -> dict[int, str]:
    table = read_table(path / "meta" / "tasks.parquet")
    text = first_of(_TASK_TEXT, table.column_names, path / "meta" / "tasks.parquet")
    numbers = table.column("task_index").to_pylist()
    return dict(zip(numbers, table.column(text).to_pylist(), strict=True))


def _episodes_v2(
    path: Path, info: dict[str, Any], cameras: Sequence[str]
) -> dict[int, EpisodeFiles]:
    """Version 2: one file per episode, named by its number."""
    found = {}
    for line in _lines(path / "meta" / "episodes.jsonl"):
        number = int(line["episode_index"])
        # A chunk is a folder of at most `chunks_size` episodes.
        names = {"episode_chunk": number // int(info["chunks_size"]), "episode_index": number}
        videos = {
            camera: Video(_named(path, info, "video_path", video_key=camera, **names), 0.0)
            for camera in cameras
        }
        data = _named(path, info, "data_path", **names)
        found[number] = EpisodeFiles(int(line["length"]), data, videos)
    return found


def _episodes_v3(
    path: Path, info: dict[str, Any], cameras: Sequence[str]
) -> dict[int, EpisodeFiles]:
    """Version 3: many episodes per file; meta/episodes has the file and the start in a video."""
    places = ["data/chunk_index", "data/file_index"]
    for camera in cameras:
        places += [f"videos/{camera}/{x}" for x in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for file in sorted((path / "meta" / "episodes").glob("*/[!.]*.parquet")):
        rows += read_table(file, ["episode_index", "length", *places]).to_pylist()
    return {int(row["episode_index"]): _episode_v3(path, info, cameras, row) for row in rows}


def _episode_v3(
    path: Path, info: dict[str, Any], cameras: Sequence[str], row: dict[str, Any]
) -> EpisodeFiles:
    def at(key: str, what: str, **names: str) -> Path:
        """The file that the row names for its data or one camera."""
        indices = {x: int(row[f"{what}/{x}"]) for x in ("chunk_index", "file_index")}
        return _named(path, info, key, **names, **indices)

    videos = {
        camera: Video(
            at("video_path", f"videos/{camera}", video_key=camera),
            float(row[f"videos/{camera}/from_timestamp"]),
        )
        for camera in cameras
    }
    return EpisodeFiles(int(row["length"]), at("data_path", "data"), videos)
