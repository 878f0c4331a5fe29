"""How long the statistics of a large LeRobot folder take.

python bench/stats.py [--frames 300000]

Writes a folder of ALOHA's 14 joints (version 3.0, 300 steps per episode, no pictures: none would be
read), runs `python -m pi0_jax.data.stats` on it, and prints seconds and the largest memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_STEPS = 300
_FILE = 100  # episodes per parquet file
_WIDTH = 14


def write_folder(path: Path, episodes: int) -> None:
    """A folder of random walks."""
    rng = np.random.default_rng(0)
    (path / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "total_episodes": episodes,
        "fps": 50,
        "robot_type": "aloha",
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [_WIDTH]},
            "action": {"dtype": "float32", "shape": [_WIDTH]},
        },
    }
    (path / "meta" / "info.json").write_text(json.dumps(info))
    pq.write_table(pa.table({"task_index": [0], "task": ["x"]}), path / "meta" / "tasks.parquet")
    rows = [
        {"episode_index": i, "length": _STEPS, "data/chunk_index": 0, "data/file_index": i // _FILE}
        for i in range(episodes)
    ]
    pq.write_table(
        pa.Table.from_pylist(rows), path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    )
    for first in range(0, episodes, _FILE):
        file = path / info["data_path"].format(chunk_index=0, file_index=first // _FILE)
        file.parent.mkdir(parents=True, exist_ok=True)
        count = min(_FILE, episodes - first)
        pq.write_table(_table(rng, first, count), file)


def _table(rng: np.random.Generator, first: int, episodes: int) -> pa.Table:
    walk = 0.01 * rng.standard_normal((episodes, _STEPS + 1, _WIDTH)).cumsum(1)
    state, action = (
        list(part.reshape(-1, _WIDTH).astype(np.float32)) for part in (walk[:, :-1], walk[:, 1:])
    )
    rows = np.arange(episodes * _STEPS)
    return pa.table(
        {
            "observation.state": pa.array(state, pa.list_(pa.float32())),
            "action": pa.array(action, pa.list_(pa.float32())),
            "timestamp": (rows % _STEPS / 50).astype(np.float32),
            "episode_index": first + rows // _STEPS,
            "task_index": np.zeros(len(rows), int),
        }
    )


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300_000)
    frames = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as name:
        write_folder(Path(name) / "data", frames // _STEPS)
        command = [sys.executable, "-m", "pi0_jax.data.stats", str(Path(name) / "data")]
        command += ["--robot", "aloha", "--out", str(Path(name) / "norm_stats.json")]
        clock = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - clock
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{frames} frames, chunks of 50: {seconds:.1f} s, at most {peak:.2f} GB")


if __name__ == "__main__":
    main()
