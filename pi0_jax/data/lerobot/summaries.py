"""Statistics that a LeRobot folder carries in meta/stats.json, added up episode by episode.

lerobot normalises by them; our own statistics are computed from the tables (`data/chunk_stats.py`).

Axis letters: t control step, d dimension, h height, w width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
_EVERY_PICTURE = 8  # steps from one picture that counts to the next
_EVERY_PIXEL = 4  # along both sides: neighbours say the same


class Numbers:
    """Statistics of a column of numbers; all of them are kept, 8 bytes each."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Adds a number or a row of numbers per step, [t] or [t, d]."""
        self._parts.append(np.asarray(values, np.float64).reshape(len(values), -1))

    def stats(self) -> dict[str, Any]:
        """The statistics as plain lists of d numbers."""
        values = np.concatenate(self._parts)
        found = {
            "min": values.min(0),
            "max": values.max(0),
            "mean": values.mean(0),
            "std": values.std(0),
            **{_name(q): np.quantile(values, q, axis=0) for q in _QUANTILES},
        }
        return _plain(found, len(values), (-1,))


class Pixels:
    """Statistics of a camera's pixels in [0, 1] by channel, from counts of the 256 values.

    Attributes:
        shape: height and width of its pictures.
    """

    def __init__(self) -> None:
        self.shape = (0, 0)
        self._pictures = 0
        self._counts = np.zeros((3, 256), np.int64)

    def add(self, image: np.ndarray, step: int) -> None:
        """Adds some pixels of uint8[h, w, 3] at a step of its episode, if this picture counts."""
        self.shape = (image.shape[0], image.shape[1])
        if step % _EVERY_PICTURE:
            return
        self._pictures += 1
        for channel, pixels in enumerate(np.moveaxis(image[::_EVERY_PIXEL, ::_EVERY_PIXEL], 2, 0)):
            self._counts[channel] += np.bincount(pixels.ravel(), minlength=256)

    def stats(self) -> dict[str, Any]:
        """The statistics as plain lists [3, 1, 1]."""
        values, share = np.arange(256) / 255, self._counts / self._counts.sum(1, keepdims=True)
        mean, below = share @ values, share.cumsum(1)
        there = self._counts > 0
        found = {
            "min": values[there.argmax(1)],
            "max": values[255 - there[:, ::-1].argmax(1)],
            "mean": mean,
            "std": np.sqrt((share * (values - mean[:, None]) ** 2).sum(1)),
            # The first value up to which this share lies; rounding must not pass the last one.
            **{_name(q): values[(below >= q - 1e-12).argmax(1)] for q in _QUANTILES},
        }
        return _plain(found, self._pictures, (-1, 1, 1))


def _name(quantile: float) -> str:
    return f"q{round(100 * quantile):02d}"


def _plain(found: Mapping[str, np.ndarray], count: int, shape: tuple[int, ...]) -> dict[str, Any]:
    lists = {name: array.reshape(shape).tolist() for name, array in found.items()}
    return {"count": [count], **lists}
