"""LeRobot folders of every version, written as `lerobot` lays them out, from plain arrays."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pi0_jax.io.video import write_video

FPS = 10
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
OPENPI = {"state": "state", "actions": "actions", "scene": "image", "wrist": "wrist_image"}
LEROBOT = {
    "state": "observation.state",
    "actions": "action",
    "scene": "observation.images.image",
    "wrist": "observation.images.image2",
}


class Data:
    """Some episodes of random motions; every picture is one grey that says what it is.

    Attributes:
        prompts: of the episodes.
        lengths: of the episodes, in control steps.
    """

    def __init__(self, prompts: Sequence[str], lengths: Sequence[int], size: int = 32):
        rng = np.random.default_rng(0)
        self.prompts, self.lengths, self.size = prompts, lengths, size
        self.state = [rng.uniform(-1, 1, (n, 8)).astype(np.float32) for n in lengths]
        self.actions = [rng.uniform(-1, 1, (n, 7)).astype(np.float32) for n in lengths]

    def grey(self, episode: int, step: int, camera: str) -> int:
        """The brightness of a picture."""
        return 40 * episode + 5 * step + (100 if camera == "wrist" else 0)

    def frames(self, episode: int, camera: str) -> np.ndarray:
        """uint8[t, h, w, 3]."""
        greys = [self.grey(episode, step, camera) for step in range(self.lengths[episode])]
        shape = (len(greys), self.size, self.size, 3)
        return np.broadcast_to(np.array(greys, np.uint8)[:, None, None, None], shape)


class Sound(Data):
    """Episodes of a Panda with which nothing is wrong: the gripper shows both signs."""

    def __init__(self, prompts: Sequence[str], lengths: Sequence[int], size: int = 32):
        super().__init__(prompts, lengths, size)
        for actions in self.actions:
            actions[:, 6] = np.where(np.arange(len(actions)) % 2, 1.0, -1.0)


def write(path: Path, version: str, data: Data, names: dict[str, str], video: bool = False) -> Path:
    """A folder of this version; in 3.0 episodes share files, as `v3_place` says."""
    kind = "video" if video else "image"
    features = {names["state"]: "float32", names["actions"]: "float32"}
    features |= {names[camera]: kind for camera in ("scene", "wrist")}
    new = version == "v3.0"
    info = {
        "codebase_version": version,
        "total_episodes": len(data.lengths),
        "total_frames": sum(data.lengths),
        "chunks_size": 1000,
        "fps": FPS,
        "data_path": V3_DATA if new else V2_DATA,
        "video_path": V3_VIDEO if new else V2_VIDEO,
        "features": {name: {"dtype": dtype, "shape": [8]} for name, dtype in features.items()},
    }
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(info))
    tasks = list(dict.fromkeys(data.prompts))
    tables = [_table(data, episode, tasks, names, video) for episode in range(len(data.lengths))]
    if new:
        _write_v3(path, data, tasks, tables, names)
    else:
        _write_v2(path, data, tasks, tables)
    if video:
        _write_videos(path, data, names, new)
    return path


def _table(data: Data, episode: int, tasks: list[str], names: dict[str, str], video: bool):
    length = data.lengths[episode]
    columns = {
        names["state"]: pa.array(list(data.state[episode]), pa.list_(pa.float32())),
        names["actions"]: pa.array(list(data.actions[episode]), pa.list_(pa.float32())),
        "timestamp": np.arange(length, dtype=np.float32) / FPS,
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": sum(data.lengths[:episode]) + np.arange(length),
        "task_index": np.full(length, tasks.index(data.prompts[episode])),
    }
    for camera in () if video else ("scene", "wrist"):
        columns[names[camera]] = [
            {"bytes": _png(frame), "path": None} for frame in data.frames(episode, camera)
        ]
    return pa.table(columns)


def add_outcomes(path: Path, **columns: Sequence[float]) -> None:
    """Adds columns with one value per episode to a folder of version 2, such as success."""
    info = json.loads((path / "meta" / "info.json").read_text())
    info["features"] |= {name: {"dtype": "float32"} for name in columns}
    (path / "meta" / "info.json").write_text(json.dumps(info))
    for number, file in enumerate(sorted((path / "data").rglob("*.parquet"))):
        table = pq.read_table(file)
        for name, values in columns.items():
            table = table.append_column(name, pa.array([float(values[number])] * len(table)))
        pq.write_table(table, file)


def _png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _write_v2(path: Path, data: Data, tasks: list[str], tables: list) -> None:
    lines = [{"task_index": i, "task": task} for i, task in enumerate(tasks)]
    _write_lines(path / "meta" / "tasks.jsonl", lines)
    lines = [
        {"episode_index": i, "tasks": [data.prompts[i]], "length": length}
        for i, length in enumerate(data.lengths)
    ]
    _write_lines(path / "meta" / "episodes.jsonl", lines)
    for episode, table in enumerate(tables):
        _write_table(path / V2_DATA.format(episode_chunk=0, episode_index=episode), table)


def _write_v3(
    path: Path, data: Data, tasks: list[str], tables: list, names: dict[str, str]
) -> None:
    # As pandas writes a frame whose index holds the texts.
    texts = pa.table({"task_index": list(range(len(tasks))), "__index_level_0__": tasks})
    _write_table(path / "meta" / "tasks.parquet", texts)
    rows = [_v3_row(data, episode, names) for episode in range(len(data.lengths))]
    _write_table(
        path / "meta" / "episodes" / "chunk-000" / "file-000.parquet", pa.Table.from_pylist(rows)
    )
    for place in sorted(set(map(v3_place, range(len(tables))))):
        own = [table for episode, table in enumerate(tables) if v3_place(episode) == place]
        file = path / V3_DATA.format(**dict(zip(PLACE, place, strict=True)))
        file.parent.mkdir(parents=True)
        # Row groups that are not the episodes.
        pq.write_table(pa.concat_tables(own), file, row_group_size=3)


PLACE = ("chunk_index", "file_index")


def v3_place(episode: int) -> tuple[int, int]:
    """Chunk and file of an episode in 3.0: the first two share a file, the others another."""
    return (0, 0) if episode < 2 else (1, 4)


def _v3_row(data: Data, episode: int, names: dict[str, str]) -> dict:
    before = sum(data.lengths[:episode])
    row = {
        "episode_index": episode,
        "tasks": [data.prompts[episode]],
        "length": data.lengths[episode],
        **{f"data/{x}": i for x, i in zip(PLACE, v3_place(episode), strict=True)},
        "dataset_from_index": before,
        "dataset_to_index": before + data.lengths[episode],
    }
    for name in (names["scene"], names["wrist"]):
        row |= {f"videos/{name}/{x}": i for x, i in zip(PLACE, v3_place(episode), strict=True)}
        same_file = [i for i in range(episode) if v3_place(i) == v3_place(episode)]
        row[f"videos/{name}/from_timestamp"] = sum(data.lengths[i] for i in same_file) / FPS
    return row


def _write_videos(path: Path, data: Data, names: dict[str, str], new: bool) -> None:
    for camera in ("scene", "wrist"):
        clips = [data.frames(episode, camera) for episode in range(len(data.lengths))]
        for place in {v3_place(episode) for episode in range(len(clips))} if new else ():
            where = dict(zip(PLACE, place, strict=True))
            own = [clip for episode, clip in enumerate(clips) if v3_place(episode) == place]
            _write_clip(path / V3_VIDEO.format(video_key=names[camera], **where), own)
        for episode, clip in enumerate(clips) if not new else ():
            where = {"episode_chunk": 0, "episode_index": episode}
            _write_clip(path / V2_VIDEO.format(video_key=names[camera], **where), [clip])


def _write_clip(file: Path, clips: list[np.ndarray]) -> None:
    write_video(file, np.concatenate(clips), FPS)


def _write_table(file: Path, table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def _write_lines(file: Path, lines: list[dict]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
