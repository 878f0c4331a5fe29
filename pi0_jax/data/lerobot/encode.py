"""Pictures into LeRobot files: bytes of single images, and videos that grow episode by episode.

Axis letters: h height, w width.
"""

import contextlib
import io
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from PIL import Image

from pi0_jax.errors import InputError

IMAGES = ("png", "jpeg")
VIDEOS = ("av1", "h264")

# Encoder and its options. As in lerobot, every second frame is a key frame, so that one of them is
# decoded in two steps, and the constant rate factor is 30 for AV1; H.264 needs a lower one.
_ENCODERS = {
    "av1": ("libsvtav1", {"crf": "30", "g": "2", "preset": "8"}),
    "h264": ("libx264", {"crf": "23", "g": "2", "preset": "fast"}),
}


def encoded(image: np.ndarray, kind: str) -> bytes:
    """uint8[h, w, 3] as the bytes of a file: "png" (lossless) or "jpeg" (quality 95)."""
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 95} if kind == "jpeg" else {"compress_level": 1}
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


class VideoFile:
    """An mp4 that is being written; a context manager.

    Args:
        path: file to write; its folder is made.
        kind: one of `VIDEOS`.
        fps: frames per second.
    """

    def __init__(self, path: Path, kind: str, fps: float) -> None:
        """Begins the file.

        Raises:
            InputError: the installed av was built without this encoder.
        """
        codec, options = _ENCODERS[kind]
        if codec not in av.codecs_available:
            raise InputError(
                f"av {av.__version__} has no {codec}, which writes {kind}: install av from PyPI "
                f"(15 or later), or choose other pictures: {', '.join((*IMAGES, *VIDEOS))}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        # SVT-AV1 says twenty lines about itself on stderr, unless it is told to name errors alone.
        os.environ.setdefault("SVT_LOG", "1")
        self.frames = 0
        rate = Fraction(fps).limit_denominator(1000)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: Any = self._container.add_stream(codec, rate=rate, options=options)
        self._stream.pix_fmt = "yuv420p"
        self._time_base = 1 / rate

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, image: np.ndarray) -> None:
        """Appends a frame uint8[h, w, 3].

        Raises:
            InputError: a side is odd, which this format of colours cannot have.
        """
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            raise InputError(
                f"videos need pictures with even sides, got {width} x {height}; use png or jpeg"
            )
        if not self.frames:
            self._stream.width, self._stream.height = width, height
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._time_base
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        if not self.frames:
            _at_normal_priority()
        self.frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds, and the index."""
        for packet in self._stream.encode() if self.frames else ():
            self._container.mux(packet)
        self._container.close()


def _at_normal_priority() -> None:
    """Takes their real-time priority from the encoder's threads.

    SVT-AV1 gives it to them where it may, as root in a container: nothing else on the machine would
    run until the video is written.
    """
    if not hasattr(os, "sched_getscheduler"):
        return  # not Linux
    real_time = (os.SCHED_FIFO, os.SCHED_RR)
    for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
        # One that has ended in the meantime has none.
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getscheduler(thread) in real_time:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
