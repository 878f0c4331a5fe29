"""How fast windows come out of LeRobot folders, against lerobot's own loader on the same folders.

python bench/input.py [--lerobot FOLDER/bin/python] [--episodes 20] [--kinds png jpeg av1 h264]

Makes a folder per kind of pictures (two cameras of 256 x 256, episodes of 150 steps), and draws
windows at random from each: batches of 32, and one by one. Ours are resized, normalised and put
into the network's form; lerobot's are its tensors, by its DataLoader with a worker per core,
decoding by PyAV. The Python of --lerobot has `lerobot[dataset]`; without it only ours is measured.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from pi0_jax.data.lerobot.folder import LeRobotFolder, read_lerobot
from pi0_jax.data.lerobot.write import KINDS, EpisodeRows, FolderWriter
from pi0_jax.data.tokenizer import ByteTokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.robots import load_robot
from pi0_jax.testing import plain_stats

ROBOT, FPS, STEPS, SIZE, HORIZON, BATCH = load_robot("libero_panda"), 20.0, 150, 256, 50, 32
SECONDS = 8.0  # per measurement, at least

THEIRS = """
import sys, time, json, torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, batch, seconds, cores = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
chunk = {"action": [i / 20 for i in range(50)]}
data = LeRobotDataset("bench/input", root=root, video_backend="pyav", delta_timestamps=chunk)
order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
data[order[0]]
start, count = time.monotonic(), 0
while time.monotonic() - start < seconds:
    data[order[count % len(order)]]
    count += 1
single = count / (time.monotonic() - start)
loader = torch.utils.data.DataLoader(data, batch, shuffle=True, num_workers=cores, drop_last=True,
                                     persistent_workers=True)
def batches():
    while True:
        yield from loader
stream = batches()
next(stream)
start, count = time.monotonic(), 0
while time.monotonic() - start < seconds:
    next(stream)
    count += batch
print(json.dumps({"batches": count / (time.monotonic() - start), "single": single}))
"""


def main() -> None:
    """Measures every kind and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lerobot", help="a Python with lerobot[dataset]")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores; samples/s, two cameras of {SIZE} px, chunks of {HORIZON}")
    print("| pictures | samples | ours | cached | lerobot | ours / lerobot |")
    print("|---|---|---:|---:|---:|---:|")
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), kind, given)


def _measure(folder: Path, kind: str, given: argparse.Namespace) -> None:
    data = folder / "data"
    data.mkdir()
    with FolderWriter(data, ROBOT, FPS, kind) as writer:
        for episode in range(given.episodes):
            writer.add(_episode(episode))
    opened = read_lerobot(data, None)
    ours = _ours(opened)
    cached = opened.cached(folder / "cache", 10**12)
    _warm(cached)
    again = _ours(cached)
    theirs = _theirs(data, given.lerobot) if given.lerobot else {}
    for what in ("batches", "single"):
        rate = theirs.get(what)
        ratio = f"{rate:.0f} | {ours[what] / rate:.1f}" if rate else "- | -"
        print(f"| {kind} | {what} | {ours[what]:.0f} | {again[what]:.0f} | {ratio} |", flush=True)


def _episode(number: int) -> EpisodeRows:
    """Moving slopes with noise: about as large as pictures of a camera."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE]
    noise = rng.integers(0, 16, (SIZE, SIZE, 3))

    def picture(step: int, camera: int) -> np.ndarray:
        """uint8[h, w, 3]."""
        slopes = np.stack([x + 2 * step, y + 40 * camera + step, (x * y >> 7) + step], -1) % 240
        return (slopes + np.roll(noise, step, 0)).astype(np.uint8)

    return EpisodeRows(
        prompt="pick up the bowl",
        state=rng.normal(size=(STEPS, len(ROBOT.state))).astype(np.float32),
        actions=rng.uniform(-1, 1, (STEPS, len(ROBOT.actions))).astype(np.float32),
        pictures=(np.stack([picture(step, camera) for camera in (0, 1)]) for step in range(STEPS)),
        beside={},
    )


def _ours(folder: LeRobotFolder) -> dict[str, float]:
    windows = folder.windows(_transforms(), HORIZON)
    rng = np.random.default_rng(0)
    windows.take(rng.integers(len(windows), size=BATCH))
    return {what: _rate(windows.take, rng, len(windows), size) for what, size in _SIZES.items()}


def _rate(take, rng: np.random.Generator, number: int, size: int) -> float:
    start, count = time.monotonic(), 0
    while time.monotonic() - start < SECONDS:
        take(rng.integers(number, size=size))
        count += size
    return count / (time.monotonic() - start)


_SIZES = {"batches": BATCH, "single": 1}


def _warm(folder: LeRobotFolder) -> None:
    """Decodes everything once."""
    windows = folder.windows(_transforms(), HORIZON)
    for first in range(0, len(windows), BATCH):
        windows.take(np.arange(first, min(first + BATCH, len(windows))))


def _transforms() -> Transforms:
    return Transforms(224, 32, 48, ByteTokenizer(), plain_stats(ROBOT), ROBOT)


def _theirs(data: Path, python: str) -> dict[str, float]:
    done = subprocess.run(
        [python, "-c", THEIRS, data, str(BATCH), str(SECONDS), str(os.cpu_count())],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(data.parent / "hf")},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
