"""A contact sheet: first, middle and last pictures of some episodes, every camera, as one PNG.

Axis letters: c camera, h height, w width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.errors import InputError
from pi0_jax.pictures import resize_with_pad

_SIDE = 128  # px of a picture
_GAP, _TEXT = 4, 14
_PAPER, _INK, _BAD = (251, 250, 248), (27, 29, 33), (179, 54, 43)


def write_sheet(
    path: Path, recordings: Sequence[Recording], cameras: Sequence[str], rows: int = 12
) -> None:
    """Draws a row per episode: its cameras at its first, middle and last step.

    Args:
        path: the PNG to write.
        recordings: the episodes; those that are drawn lie evenly among them.
        cameras: names of their cameras.
        rows: most episodes to draw.
    """
    chosen = [recordings[i] for i in _evenly(len(recordings), rows)]
    columns = 3 * len(cameras)
    width = columns * (_SIDE + _GAP) + _GAP
    height = _TEXT + len(chosen) * (_SIDE + _TEXT + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for at, name in enumerate(cameras):
        draw.text((_GAP + 3 * at * (_SIDE + _GAP), 1), name, fill=_INK)
    for row, recording in enumerate(chosen):
        top = _TEXT + row * (_SIDE + _TEXT + _GAP)
        title = f"{recording.number}: {recording.prompts[0]}  ({len(recording)} steps)"
        draw.text((_GAP, top), title, fill=_INK)
        for column, picture in enumerate(_pictures(recording)):
            place = (_GAP + column * (_SIDE + _GAP), top + _TEXT)
            if picture is None:
                draw.rectangle([*place, place[0] + _SIDE, place[1] + _SIDE], outline=_BAD)
                draw.text((place[0] + 8, place[1] + 8), "cannot be read", fill=_BAD)
            else:
                sheet.paste(Image.fromarray(picture), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _evenly(count: int, most: int) -> list[int]:
    """At most so many numbers below `count`, ascending, the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def _pictures(recording: Recording) -> list[np.ndarray | None]:
    """uint8[h, w, 3] of each camera at three steps; None where there is none."""
    last = len(recording) - 1
    found: list[np.ndarray | None] = []
    for pictures in recording.pictures:
        for step in (0, last // 2, last):
            try:
                found.append(resize_with_pad(pictures.read(step), _SIDE))
            except InputError:
                found.append(None)
    return found
