"""mp4 round trip: size, colours, codec, captions, and no half-written file."""

from pathlib import Path

import av
import numpy as np
import pytest
from videos import read_video

from pi0_jax.io.video import _lines, write_video

RED, BLUE = (220, 30, 30), (30, 30, 220)


def two_colours(height: int, width: int) -> np.ndarray:
    """uint8[8, height, width, 3]: four red frames, then four blue ones."""
    frames = np.empty((8, height, width, 3), np.uint8)
    frames[:4], frames[4:] = RED, BLUE
    return frames


def test_round_trip(tmp_path: Path):
    path = tmp_path / "videos" / "a.mp4"
    frames = two_colours(64, 96)
    write_video(path, frames, fps=10)
    back = read_video(path)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).max() <= 8
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_browsers_can_play_it(tmp_path: Path):
    path = tmp_path / "a.mp4"
    write_video(path, two_colours(64, 64), fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == pytest.approx(12.5)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_odd_sizes_grow_by_a_pixel(tmp_path: Path):
    write_video(tmp_path / "a.mp4", two_colours(63, 65), fps=10)
    assert read_video(tmp_path / "a.mp4").shape == (8, 64, 66, 3)


def test_captions_lie_below_the_picture(tmp_path: Path):
    frames = two_colours(256, 256)
    captions = [f"lift · step {step}" for step in range(7)] + ["lift · step 7\nsuccess"]
    write_video(tmp_path / "a.mp4", frames, fps=10, captions=captions)
    back = read_video(tmp_path / "a.mp4").astype(int)
    assert back.shape == (8, 256 + 44, 256, 3)
    # H.264 smears a little over the border between picture and strip.
    assert np.abs(back[:, :250] - frames[:, :250]).max() <= 12
    bright = back[:, 260:].min(axis=-1) > 120
    assert bright[:, :18].any(axis=(1, 2)).all()  # every frame has a first line
    assert bright[:, 22:].any(axis=(1, 2)).tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("caption", ["word " * 50, "w" * 200])
def test_small_pictures_grow_and_captions_have_bounds(tmp_path: Path, caption: str):
    """Words fill four lines at most; one that is too long for a line is cut."""
    write_video(tmp_path / "a.mp4", two_colours(64, 64), fps=10, captions=[caption] * 8)
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == (8, 192 + 8 + 18 * (4 if " " in caption else 1), 192, 3)
    assert (back[:, 196:, -6:].max(axis=-1) < 80).all()  # the margin stays free
    assert (back[:, -18:-6].max(axis=-1) > 120).any()  # the last line is written on


def test_a_long_instruction_is_wrapped():
    """LIBERO's longest, at LIBERO's size: every word is there."""
    text = "put the white mug on the left plate and put the yellow and white mug on the right plate"
    lines = _lines(f"{text}\nript  step 3/520  failure", 240)
    assert " ".join(line for line, bright in lines if bright) == text
    assert len(lines) == 4
    assert lines[-1] == ("ript  step 3/520  failure", False)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3))],
)
def test_wrong_frames(tmp_path: Path, frames: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "a.mp4", frames, fps=10)


def test_wrong_number_of_captions(tmp_path: Path):
    with pytest.raises(ValueError, match="8 captions"):
        write_video(tmp_path / "a.mp4", two_colours(64, 64), fps=10, captions=["one"])
    assert list(tmp_path.iterdir()) == []
