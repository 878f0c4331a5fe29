"""Writes a LeRobot v3.0 folder, episode by episode, in memory that does not grow with its pictures.

meta/info.json   meta/stats.json   meta/tasks.parquet   meta/episodes/chunk-000/file-000.parquet
data/chunk-000/file-*.parquet      videos/<camera>/chunk-000/file-*.mp4

Axis letters: t control step, c camera, h height, w width, s state, e action dimension.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pi0_jax.data.lerobot.encode import IMAGES, VIDEOS, VideoFile, encoded
from pi0_jax.data.lerobot.summaries import Numbers, Pixels
from pi0_jax.data.lerobot.tables import pyarrow
from pi0_jax.data.lerobot.written_tables import EpisodeTable, feature, task_table
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot

KINDS = (*VIDEOS, *IMAGES)

_CHUNK = 0  # one folder of files is enough: they are large
_FILE_BYTES = 100 * 10**6  # of a table's pictures; lerobot begins another file then, too
_FILE_FRAMES = 20_000  # of a video
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_PLACES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class EpisodeRows:
    """One episode to write.

    Attributes:
        prompt: the language instruction.
        state: float32[t, s].
        actions: float32[t, e].
        pictures: t times uint8[c, h, w, 3], before each step; read once.
        beside: further columns: name -> bool[t], int64[t], float32[t], or t texts. All episodes
            of a folder have the same.
    """

    prompt: str
    state: np.ndarray
    actions: np.ndarray
    pictures: Iterable[np.ndarray]
    beside: Mapping[str, Any]


class FolderWriter:
    """A LeRobot folder that is being written; a context manager, whose end completes meta/.

    Args:
        path: an empty folder.
        robot: of all episodes.
        fps: control steps per second.
        kind: of the pictures: one of `KINDS`.
    """

    def __init__(self, path: Path, robot: Robot, fps: float, kind: str) -> None:
        self._path, self._robot, self._fps, self._kind = path, robot, fps, kind
        self._cameras = tuple(f"observation.images.{name}" for name in robot.cameras)
        self._features: dict[str, dict[str, Any]] = {}
        self._tasks: list[str] = []
        self._episodes: list[dict[str, Any]] = []
        self._rows = 0
        self._table: EpisodeTable | None = None
        self._videos: list[VideoFile] = []
        self._video_files = -1
        self._pixels = {camera: Pixels() for camera in self._cameras}
        self._numbers: dict[str, Numbers] = {}

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:
            for video in self._videos:
                stack.callback(video.close)
            if self._table is not None:
                stack.callback(self._table.close)
        if error is None:
            self._write_meta()

    @property
    def episodes(self) -> int:
        """Number of episodes so far."""
        return len(self._episodes)

    def add(self, episode: EpisodeRows) -> None:
        """Appends an episode.

        Raises:
            InputError: it has no step, its pictures are fewer or more than its steps, or a value
                is not finite.
        """
        length = len(episode.actions)
        _check(episode, len(self._episodes))
        if episode.prompt not in self._tasks:
            self._tasks.append(episode.prompt)
        row = self._begin(length)
        pictures = self._pictures(episode, row)
        columns = self._columns(episode)
        if not self._features:
            self._describe(columns, pictures)
        for name, values in columns.items():
            if not isinstance(values[0], str):
                self._numbers.setdefault(name, Numbers()).add(values)
        table = self._open_table()
        row |= {"data/chunk_index": _CHUNK, "data/file_index": table.number}
        table.add(columns, pictures)
        self._episodes.append(row | {"tasks": [episode.prompt]})
        self._rows += length

    def _begin(self, length: int) -> dict[str, Any]:
        """What meta/episodes says of the next episode, before its files are known."""
        return {
            "episode_index": len(self._episodes),
            "length": length,
            "dataset_from_index": self._rows,
            "dataset_to_index": self._rows + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }

    def _columns(self, episode: EpisodeRows) -> dict[str, Any]:
        """Columns of numbers and texts by name, in lerobot's order."""
        length = len(episode.actions)
        steps = np.arange(length)
        task = self._tasks.index(episode.prompt)
        places = (
            (steps / self._fps).astype(np.float32),
            steps,
            np.full(length, len(self._episodes)),
            self._rows + steps,
            np.full(length, task),
        )
        return {
            "observation.state": np.asarray(episode.state, np.float32),
            "action": np.asarray(episode.actions, np.float32),
            **episode.beside,
            **dict(zip(_PLACES, places, strict=True)),
        }

    def _pictures(self, episode: EpisodeRows, row: dict[str, Any]) -> dict[str, list[bytes]]:
        """Writes the videos and notes their place in `row`, or encodes images for the table."""
        number, length = row["episode_index"], row["length"]
        images: dict[str, list[bytes]] = {camera: [] for camera in self._cameras}
        if self._kind in VIDEOS:
            self._open_videos()
            for camera, video in zip(self._cameras, self._videos, strict=True):
                start = video.frames / self._fps
                row[f"videos/{camera}/chunk_index"] = _CHUNK
                row[f"videos/{camera}/file_index"] = self._video_files
                row[f"videos/{camera}/from_timestamp"] = start
                row[f"videos/{camera}/to_timestamp"] = start + length / self._fps
        count = 0
        for count, views in enumerate(episode.pictures, 1):
            for index, (camera, view) in enumerate(zip(self._cameras, views, strict=True)):
                self._pixels[camera].add(view, count - 1)
                if self._kind in VIDEOS:
                    self._videos[index].add(view)
                else:
                    images[camera].append(encoded(view, self._kind))
        if count != length:
            raise InputError(f"episode {number}: {count} pictures for {length} steps")
        return images if self._kind in IMAGES else {}

    def _open_videos(self) -> None:
        if self._videos and self._videos[0].frames < _FILE_FRAMES:
            return
        for video in self._videos:
            video.close()
        self._video_files += 1
        place = {"chunk_index": _CHUNK, "file_index": self._video_files}
        self._videos = [
            VideoFile(self._path / _VIDEO.format(video_key=c, **place), self._kind, self._fps)
            for c in self._cameras
        ]

    def _open_table(self) -> EpisodeTable:
        if self._table is None or self._table.bytes >= _FILE_BYTES:
            number = 0
            if self._table is not None:
                self._table.close()
                number = self._table.number + 1
            file = self._path / _DATA.format(chunk_index=_CHUNK, file_index=number)
            self._table = EpisodeTable(file, number)
        return self._table

    def _describe(self, columns: Mapping[str, Any], pictures: Mapping[str, list[bytes]]) -> None:
        """The features of meta/info.json, from the first episode."""
        names = {"observation.state": self._robot.state, "action": self._robot.actions}
        for camera in self._cameras:
            height, width = self._pixels[camera].shape
            self._features[camera] = {
                "dtype": "image" if pictures else "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                **({} if pictures else {"info": self._video_info(height, width)}),
            }
        for name, values in columns.items():
            self._features[name] = feature(values, names.get(name))

    def _video_info(self, height: int, width: int) -> dict[str, Any]:
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self._kind,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }

    def _write_meta(self) -> None:
        meta = self._path / "meta"
        (self._path / _EPISODES).parent.mkdir(parents=True, exist_ok=True)
        pa, pq = pyarrow()
        pq.write_table(pa.Table.from_pylist(self._episodes), self._path / _EPISODES)
        pq.write_table(task_table(self._tasks), meta / "tasks.parquet")
        summaries = {**self._pixels, **self._numbers}
        stats = {name: summary.stats() for name, summary in summaries.items()}
        _write_json(meta / "stats.json", stats)
        whole = round(self._fps)
        _write_json(
            meta / "info.json",
            {
                "codebase_version": "v3.0",
                "robot_type": self._robot.name,
                "total_episodes": len(self._episodes),
                "total_frames": self._rows,
                "total_tasks": len(self._tasks),
                "chunks_size": 1000,
                "data_files_size_in_mb": 100,
                "video_files_size_in_mb": 200,
                "fps": whole if whole == self._fps else self._fps,
                "splits": {"train": f"0:{len(self._episodes)}"},
                "data_path": _DATA,
                "video_path": _VIDEO if self._kind in VIDEOS else None,
                "features": self._features,
            },
        )


def _check(episode: EpisodeRows, number: int) -> None:
    for name, values in (("states", episode.state), ("actions", episode.actions)):
        if not len(values) or not np.isfinite(values).all():
            raise InputError(f"episode {number}: expected finite {name} of at least one step")
    if len(episode.state) != len(episode.actions):
        raise InputError(
            f"episode {number}: {len(episode.state)} states for {len(episode.actions)} actions"
        )


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=4) + "\n")
