"""Rollouts as mp4 files that every browser plays, with captions below the picture.

Axis letters: t video frame, h height, w width.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pi0_jax.io.atomic import atomic_file

# Twelve pixels is the smallest type that stays readable in H.264; 256 px hold about 35 letters.
_FONT_PX = 13
_LINE_PX = 18
_MARGIN_PX = 8
# Lines into which one line of a caption is wrapped; LIBERO's longest instruction takes three.
_MOST_LINES = 4
# Smaller pictures are enlarged, pixel by pixel, to give captions room.
_CAPTION_WIDTH_PX = 192
_BACKGROUND = (18, 20, 24)
_INK = (238, 240, 243)
_INK_BELOW = (165, 171, 180)


def write_video(
    path: Path, frames: np.ndarray, fps: float, captions: Sequence[str] | None = None
) -> None:
    r"""Writes an H.264 mp4 (yuv420p, index first, so that it plays while it loads).

    A strip below the pictures has the captions, so they hide nothing; its height is that of the
    longest caption. Odd sizes grow by one pixel, because yuv420p needs even ones. The file appears
    under its name only when it is whole.

    Args:
        path: where to write; parent folders are made.
        frames: uint8[t, h, w, 3] RGB, t > 0.
        fps: frames per second at which it plays.
        captions: t texts such as "lift · step 12\nsuccess"; the first line is bright, lines
            below it are dimmed. A line that is too long is wrapped into at most `_MOST_LINES`
            lines; the last of them ends in an ellipsis if the text still does not fit.

    Raises:
        ValueError: the frames have another shape or dtype, or captions another length.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"expected uint8[t, h, w, 3] frames, got {frames.dtype}{frames.shape}")
    if captions is not None:
        frames = _captioned(frames, captions)
    frames = _even(frames)
    faststart = {"movflags": "+faststart"}
    plugin: Any = "pyav"  # imopen's annotation knows only plugin classes
    with (
        atomic_file(path) as partial,
        # The name of an unfinished file has another ending, so the container is named.
        iio.imopen(partial, "w", plugin=plugin, container="mp4", options=faststart) as file,
    ):
        file.write(frames, codec="libx264", fps=fps, out_pixel_format="yuv420p")


def _even(frames: np.ndarray) -> np.ndarray:
    """uint8[t, h, w, 3] -> the same with its last row and column repeated up to an even size."""
    _, height, width, _ = frames.shape
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _captioned(frames: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """uint8[t, h, w, 3] -> uint8[t, h·n + strip, w·n, 3], n = 1 for pictures wide enough."""
    if len(captions) != len(frames):
        raise ValueError(f"expected {len(frames)} captions, one per frame, got {len(captions)}")
    times = -(-_CAPTION_WIDTH_PX // frames.shape[2])
    frames = frames.repeat(times, axis=1).repeat(times, axis=2)
    width = frames.shape[2]
    # All strips have the height of the longest caption, so that the pictures do not jump.
    texts = [_lines(caption, width - 2 * _MARGIN_PX) for caption in captions]
    height = _MARGIN_PX + max(map(len, texts)) * _LINE_PX
    strips = np.stack([_strip(text, width, height) for text in texts])
    return np.concatenate([frames, strips], axis=1)


def _lines(caption: str, width: int) -> list[tuple[str, bool]]:
    """(text, whether it belongs to the first line of the caption), none wider than `width`."""
    first, *others = caption.split("\n")
    return [
        *((text, True) for text in _wrap(first, width)),
        *((text, False) for other in others for text in _wrap(other, width)),
    ]


def _strip(lines: Sequence[tuple[str, bool]], width: int, height: int) -> np.ndarray:
    """uint8[height, width, 3]: one caption, light on dark."""
    image = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    for index, (text, bright) in enumerate(lines):
        top = _MARGIN_PX // 2 + index * _LINE_PX
        # "lm" anchors at left and middle, so lines do not depend on the height of their letters.
        place = (_MARGIN_PX, top + _LINE_PX / 2)
        draw.text(place, text, _INK if bright else _INK_BELOW, _font(), anchor="lm")
    return np.asarray(image)


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_PX)


@functools.lru_cache
def _wrap(text: str, width: int) -> tuple[str, ...]:
    """The text in lines of at most `width` pixels; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip() if lines[-1] else word
        if not lines[-1] or _font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    whole = lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        whole[-1] = f"{whole[-1]} {lines[_MOST_LINES]}"
    return tuple(_fit(line, width) for line in whole)


def _fit(text: str, width: int) -> str:
    """The text, cut to `width` pixels with an ellipsis where it is longer."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
