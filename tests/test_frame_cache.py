"""Decoded frames on disk: decoded once, never wrong, whatever happened to the process before."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pi0_jax.data.lerobot.frame_cache import FrameCache
from pi0_jax.errors import InputError

SIZE, CAMERAS = 8, 2
ROOM = CAMERAS * SIZE * SIZE * 3


def frame(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(256, size=(CAMERAS, SIZE, SIZE, 3), dtype=np.uint8)


class Decoder:
    """Decodes frames and counts."""

    def __init__(self, cache: FrameCache) -> None:
        self.cache, self.decoded = cache, []

    def __call__(self, number: int) -> None:
        def decode() -> np.ndarray:
            self.decoded.append(number)
            return frame(number)

        np.testing.assert_array_equal(self.cache.get(number, SIZE, decode), frame(number))


def cache(folder: Path, key: str = "data", most: int = 10**9) -> Decoder:
    found = FrameCache(folder, key, 20, CAMERAS, most)
    found.keep(SIZE)
    return Decoder(found)


def test_every_frame_is_decoded_once_in_this_run_and_the_next(tmp_path):
    first = cache(tmp_path)
    for number in (3, 0, 3, 19, 0):
        first(number)
    assert first.decoded == [3, 0, 19]
    second = cache(tmp_path)
    for number in (19, 3, 4):
        second(number)
    assert second.decoded == [4]
    other = cache(tmp_path, key="other")
    other(3)
    assert other.decoded == [3]  # other data


def test_frames_of_another_size_are_not_kept(tmp_path):
    """Those of a report, which are few."""
    store = cache(tmp_path).cache
    large = np.zeros((CAMERAS, 16, 16, 3), np.uint8)
    assert store.get(3, 16, lambda: large) is large
    assert not list(tmp_path.iterdir())


def test_the_room_is_bounded(tmp_path):
    bounded = cache(tmp_path, most=5 * ROOM + 7)
    for number in (4, 5, 4, 5):
        bounded(number)
    assert bounded.decoded == [4, 5, 5]
    assert (tmp_path / f"data-{SIZE}.frames").stat().st_size == 5 * ROOM


def test_a_frame_that_is_not_what_was_stored_is_decoded_again(tmp_path):
    """As after a power cut: the sum is on the disk, and the frame is not, or not all of it."""
    cache(tmp_path)(2)
    frames = tmp_path / f"data-{SIZE}.frames"
    data = bytearray(frames.read_bytes())
    data[2 * ROOM + 5] ^= 1
    frames.write_bytes(data)
    for damage in (data, data[: 2 * ROOM + 9], b""):
        frames.write_bytes(damage)
        after = cache(tmp_path)
        after(2)
        after(2)
        assert after.decoded == [2]


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_frame_cache as t
store = t.cache(Path(sys.argv[1]))
store(1)
write = os.pwrite
def dies(file, data, at):
    if len(data) == t.ROOM:
        write(file, data[: t.ROOM // 2], at)
    os._exit(9)
os.pwrite = dies
store(2)
"""


def test_a_process_killed_while_it_stores_a_frame_has_stored_none(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, Path(__file__).parent])
    assert done.returncode == 9
    after = cache(tmp_path)
    for number in (1, 2):
        after(number)
    assert after.decoded == [2]


def test_a_disk_without_room_is_told_before_anything_is_stored(tmp_path, monkeypatch):
    class Usage:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match="more than there are; choose another folder"):
        cache(tmp_path)(0)
