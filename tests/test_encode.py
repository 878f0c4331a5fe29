"""Pictures as bytes and as videos."""

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pi0_jax.data.lerobot.encode import VIDEOS, VideoFile, encoded
from pi0_jax.errors import InputError

PICTURE = np.uint8(np.indices((64, 48)).sum(0)[..., None] * (1, 2, 0))


@pytest.mark.parametrize(("kind", "difference"), [("png", 0), ("jpeg", 9)])
def test_an_image_is_what_it_was(kind, difference):
    again = np.asarray(Image.open(io.BytesIO(encoded(PICTURE, kind))))
    assert np.abs(again.astype(int) - PICTURE).max() <= difference


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_video_has_every_frame_at_its_time(kind, tmp_path):
    with VideoFile(tmp_path / "x.mp4", kind, fps=10) as video:
        for grey in (0, 100, 200):
            video.add(np.full((64, 64, 3), grey, np.uint8))
    with av.open(str(tmp_path / "x.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time) for frame in frames] == pytest.approx([0, 0.1, 0.2])
    means = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert means == pytest.approx([0, 100, 200], abs=6)


def test_an_av_without_the_encoder_says_so(tmp_path, monkeypatch):
    """As those of conda and of distributions, and av 14."""
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    with pytest.raises(InputError, match=r"has no libsvtav1, which writes av1: .* h264$"):
        VideoFile(tmp_path / "folder/x.mp4", "av1", fps=10)
    assert not (tmp_path / "folder").exists()


def test_a_side_must_be_even(tmp_path):
    with VideoFile(tmp_path / "x.mp4", "h264", fps=10) as video:
        with pytest.raises(InputError, match="even sides, got 48 x 63"):
            video.add(PICTURE[:63])
        video.add(PICTURE)


@pytest.mark.parametrize("kind", VIDEOS)
def test_no_encoder_starves_the_machine(kind, tmp_path):
    """As root, SVT-AV1 asks for real-time priority for each of its forty threads."""
    with VideoFile(tmp_path / "x.mp4", kind, fps=10) as video:
        video.add(PICTURE)
        # Empty where this is not Linux.
        threads = [int(thread.name) for thread in Path("/proc/self/task").glob("*")]
        assert all(os.sched_getscheduler(thread) == os.SCHED_OTHER for thread in threads)
