"""Single pictures out of LeRobot files: encoded images in parquet, frames of videos.

Axis letters: h height, w width.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av.error
import numpy as np
from PIL import Image

from pi0_jax.data.lerobot.image_column import ImageColumn
from pi0_jax.data.lerobot.open_videos import MOST_PIXELS, close_video, open_video
from pi0_jax.data.lerobot.tables import pyarrow
from pi0_jax.errors import InputError

_FORMATS = ("PNG", "JPEG", "WEBP")
_UNREADABLE = (
    *(OSError, LookupError, TypeError, SyntaxError, ValueError),
    Image.DecompressionBombError,
)


class Pictures(Protocol):
    """The pictures of one camera in one episode. Several threads may read at once."""

    def read(self, step: int) -> np.ndarray:
        """The picture before control step `step`, uint8[h, w, 3] RGB."""
        ...


@dataclass(frozen=True)
class ParquetPictures:
    """Encoded images (PNG or JPEG) in a column of a parquet file.

    Attributes:
        table: reads single pictures out of the column; the episodes of a file share it.
        first_row: row of the episode's first step in the file.
    """

    table: ImageColumn
    first_row: int

    @property
    def path(self) -> Path:
        """The parquet file."""
        return self.table.path

    @property
    def column(self) -> str:
        """Name of the column."""
        return self.table.column

    def read(self, step: int) -> np.ndarray:
        """Reads and decodes the picture, without unpacking others.

        Raises:
            InputError: the file lacks the picture.
        """
        pa, _ = pyarrow()
        try:
            return _decoded(self.table.read(self.first_row + step))
        # PIL raises SyntaxError for some damaged PNGs.
        except (*_UNREADABLE, pa.ArrowException) as error:
            raise InputError(
                f"{self.path}: no image in column {self.column!r} at step {step}: {error}"
            ) from error


@dataclass(frozen=True)
class VideoPictures:
    """Frames of an mp4, which may hold several episodes.

    Attributes:
        path: the video file.
        seconds: float64[t], time [s] of every step's frame in the file.
        fps: frames per second of the data set.
    """

    path: Path
    seconds: np.ndarray
    fps: float

    def read(self, step: int) -> np.ndarray:
        """Decodes from the key frame before the step's frame on.

        Raises:
            InputError: the video has no frame within half a frame of the step's time.
        """
        # Times in a video are rounded to its time base, so half a frame more or less is the same.
        wanted, near = float(self.seconds[step]), 0.5 / self.fps
        try:
            container = open_video(self.path)
            frame = _first_after(container, wanted - near, wanted - near)
            if frame is not None and _time(frame) >= wanted + near:
                # With some encoders the frame comes before the key frame that a seek finds:
                # decode from the start of the file.
                frame = _first_after(container, wanted - near, 0.0)
            if frame is None or _time(frame) >= wanted + near:
                raise InputError(f"{self.path}: no frame at {wanted:.3f} s")
            return frame.to_ndarray(format="rgb24")
        except InputError:
            close_video(self.path)
            raise
        except (OSError, av.error.FFmpegError, IndexError) as error:
            close_video(self.path)
            raise InputError(f"{self.path}: cannot be read at {wanted:.3f} s: {error}") from error


def _decoded(encoded: bytes) -> np.ndarray:
    """An encoded picture as uint8[h, w, 3].

    Raises:
        ValueError: it has more pixels than any camera.
    """
    # Of other formats PIL would start other programs, such as Ghostscript.
    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        return np.asarray(picture.convert("RGB"))


def _first_after(container: Any, seconds: float, seek: float) -> Any:
    """The first frame after `seconds`, decoded from the key frame before `seek`, or None."""
    stream = container.streams.video[0]
    container.seek(int(max(seek, 0.0) / float(stream.time_base)), stream=stream)
    return next((f for f in container.decode(stream) if _time(f) > seconds), None)


def _time(frame: Any) -> float:
    """Time [s] of a frame; -infinity without one, so that such a frame is never chosen."""
    return -math.inf if frame.time is None else frame.time
