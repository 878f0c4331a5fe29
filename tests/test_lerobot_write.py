"""Written LeRobot folders: our reader gets back what was written, and so does the real lerobot."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from real_libraries import lerobot_python

from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.lerobot.summaries import Pixels
from pi0_jax.data.lerobot.write import KINDS, EpisodeRows, FolderWriter
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot, named

ROBOT = Robot("two", ("front", "hand"), named(("x", "y"), "m"), named(("dx", "dy", "grip"), ""))
FPS = 12.5
WORST = {"png": 0, "jpeg": 2, "av1": 4, "h264": 4}  # mean difference of a picture, of 255


def views(episode: int, step: int) -> np.ndarray:
    """uint8[2, 32, 48, 3]: slopes of one brightness and another that grow with the step."""
    slope = np.add.outer(np.arange(32), np.arange(48))[..., None].repeat(3, -1)
    return np.stack([slope + 60 * episode + 8 * step, slope[::-1] + 8 * step]).astype(np.uint8)


def rows(episode: int, steps: int) -> EpisodeRows:
    rng = np.random.default_rng(episode)
    return EpisodeRows(
        prompt=("pick up", "put down")[episode % 2],
        state=rng.normal(size=(steps, 2)).astype(np.float32),
        actions=rng.normal(size=(steps, 3)).astype(np.float32),
        pictures=(views(episode, step) for step in range(steps)),
        beside={
            "success": np.full(steps, episode == 1),
            "advantages": np.full(steps, episode - 0.5, np.float32),
            "init_hash": [f"{episode:x}"] * steps,
        },
    )


def write(folder: Path, kind: str, lengths: tuple[int, ...] = (6, 5, 4)) -> Path:
    folder.mkdir()
    with FolderWriter(folder, ROBOT, FPS, kind) as writer:
        for episode, steps in enumerate(lengths):
            writer.add(rows(episode, steps))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_our_reader_gets_back_what_was_written(tmp_path, monkeypatch, kind):
    # Files that are full after one episode, so that there are several.
    monkeypatch.setattr("pi0_jax.data.lerobot.write._FILE_BYTES", 1)
    monkeypatch.setattr("pi0_jax.data.lerobot.write._FILE_FRAMES", 8)
    folder = read_lerobot(write(tmp_path / "data", kind), None)
    assert folder.findings == ()
    assert (folder.robot.name, folder.robot.control_hz) == ("two", FPS)
    assert [d.name for d in folder.robot.actions] == ["dx", "dy", "grip"]
    assert folder.robot.cameras == ("front", "hand")
    for number, recording in enumerate(folder.recordings):
        expected = rows(number, len(recording))
        np.testing.assert_array_equal(recording.state, expected.state)
        np.testing.assert_array_equal(recording.actions, expected.actions)
        assert set(recording.prompts) == {expected.prompt}
        assert (recording.success, recording.advantage) == (number == 1, number - 0.5)
        np.testing.assert_allclose(recording.seconds, np.arange(len(recording)) / FPS, atol=1e-6)
        for step in (0, 1, len(recording) - 1):
            for camera, pictures in enumerate(recording.pictures):
                seen = pictures.read(step).astype(int)
                worst = np.abs(seen - views(number, step)[camera]).mean()
                assert worst <= WORST[kind], (number, step, camera)
    files = sorted(path.name for path in (tmp_path / "data").rglob("file-*.*"))
    assert files.count("file-001.mp4") == (2 if kind in ("av1", "h264") else 0)
    assert ("file-002.parquet" in files) == (kind in ("png", "jpeg"))


def test_meta_says_what_lerobot_asks_for(tmp_path):
    meta = write(tmp_path / "data", "h264") / "meta"
    info = json.loads((meta / "info.json").read_text())
    assert (info["codebase_version"], info["robot_type"], info["fps"]) == ("v3.0", "two", 12.5)
    assert (info["total_episodes"], info["total_frames"]) == (3, 15)
    assert info["features"]["action"] == {
        "dtype": "float32", "shape": [3], "names": ["dx", "dy", "grip"]
    }  # fmt: skip
    front = info["features"]["observation.images.front"]
    assert (front["dtype"], front["shape"]) == ("video", [32, 48, 3])
    stats = json.loads((meta / "stats.json").read_text())
    actions = np.concatenate([rows(episode, n).actions for episode, n in enumerate((6, 5, 4))])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(actions, 0.99, 0), rtol=1e-6)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


def test_pixels_are_counted_exactly():
    """Every fourth pixel of every eighth picture: 0, 4, ... 28 along a row."""
    pixels = Pixels()
    row = np.arange(32, dtype=np.uint8)[None, :, None].repeat(3, -1)
    pixels.add(row, 0)
    pixels.add(255 - row, 1)  # does not count
    found = pixels.stats()
    counted = np.arange(0, 32, 4) / 255
    for name, value in (
        ("mean", counted.mean()), ("std", counted.std()), ("min", 0), ("max", 28 / 255),
        ("q50", 12 / 255),
    ):  # fmt: skip
        np.testing.assert_allclose(np.ravel(found[name]), [value] * 3)
    assert found["count"] == [1]


def test_what_cannot_be_written_is_named(tmp_path):
    episode = rows(0, 3)
    nan = episode.state * np.nan
    odd = [np.zeros((2, 3, 4, 3), np.uint8)] * 3
    cases = (
        ("png", episode.state, [views(0, 0)], "episode 0: 1 pictures for 3 steps"),
        ("png", nan, [], "episode 0: expected finite states"),
        ("h264", episode.state, odd, "even sides, got 4 x 3; use png or jpeg"),
    )
    for number, (kind, state, pictures, message) in enumerate(cases):
        wrong = EpisodeRows("x", state, episode.actions, pictures, {})
        with (
            pytest.raises(InputError, match=message),
            FolderWriter(tmp_path / str(number), ROBOT, FPS, kind) as writer,
        ):
            writer.add(wrong)


LOAD = """
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("any/name", root=sys.argv[1], video_backend="pyav",
                      delta_timestamps={"action": [0.0, 0.08]})
for index in (0, 5, 6, 14):
    row = data[index]
    picture = row["observation.images.front"]
    print(len(data), data.num_episodes, row["task"], int(row["episode_index"]),
          bool(row["success"]), float(row["advantages"]), row["init_hash"], *picture.shape,
          [round(float(x), 4) for x in row["action"][0]], round(float(picture.mean()), 2))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_real_lerobot_loads_it(tmp_path, kind):
    python = lerobot_python()
    folder = write(tmp_path / "data", kind)
    done = subprocess.run(
        [python, "-c", LOAD, str(folder)], capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    for line, (episode, step) in zip(lines, ((0, 0), (0, 5), (1, 0), (2, 3)), strict=True):
        expected = rows(episode, (6, 5, 4)[episode])
        beside = f"{episode == 1} {episode - 0.5} {episode:x}"
        words = f"15 3 {expected.prompt} {episode} {beside} 3 32 48"
        assert line.startswith(words), line
        action, _, mean = line.removeprefix(words).strip().rpartition(" ")
        np.testing.assert_allclose(json.loads(action), expected.actions[step], atol=1e-4)
        assert float(mean) == pytest.approx(views(episode, step)[0].mean() / 255, abs=0.02)
    shutil.rmtree(folder)
