"""Decoded frames on disk, resized for the network: each is decoded once, whoever needs it again.

FOLDER/<key>-<size>.frames   frame after frame, uint8[c, size, size, 3]; holes where none was stored
FOLDER/<key>-<size>.sums     uint32 per frame: CRC-32 of its bytes; 0 where none was stored

A frame counts only if its bytes have its sum. So a process may be killed at any moment, several may
write at once, and a power cut costs the frames that were not on the disk yet.

Axis letters: c camera.
"""

import os
import shutil
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pi0_jax.errors import InputError

_SUM = np.dtype("<u4")


@dataclass
class FrameCache:
    """Frames of one LeRobot folder. Several threads and processes may use it at once.

    Attributes:
        folder: where its files lie; made when the first frame is asked for.
        key: names the data: other data must have another.
        frames: number of frames in all.
        cameras: c.
        most_bytes: room that it may take. Frames behind that are decoded each time: where windows
            are drawn at random, no other choice would spare more.
    """

    folder: Path
    key: str
    frames: int
    cameras: int
    most_bytes: int
    _kept: set[int] = field(default_factory=set)
    _files: dict[int, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, size: int) -> None:
        """Keeps frames of this height and width [px]; those of a report, say, are not worth it."""
        self._kept.add(size)

    def get(self, number: int, size: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The frame `number`, uint8[c, size, size, 3].

        Args:
            number: below `frames`.
            size: height and width [px].
            decode: makes the frame; called where it is not stored, or of a size not to keep.

        Raises:
            InputError: there is no room on the disk for the files.
            OSError: they cannot be written.
        """
        room = self.cameras * size * size * 3
        if size not in self._kept or number >= min(self.frames, self.most_bytes // room):
            return decode()
        frames, sums = self._open(size, room)
        stored = int.from_bytes(os.pread(sums, _SUM.itemsize, number * _SUM.itemsize), "little")
        if stored:
            data = os.pread(frames, room, number * room)
            if len(data) == room and _sum(data) == stored:
                return np.frombuffer(data, np.uint8).reshape(self.cameras, size, size, 3)
        frame = decode()
        data = frame.tobytes()
        os.pwrite(frames, data, number * room)
        # After the frame: a process that is killed in between has stored none.
        os.pwrite(sums, _sum(data).to_bytes(_SUM.itemsize, "little"), number * _SUM.itemsize)
        return frame

    def _open(self, size: int, room: int) -> tuple[int, int]:
        if size not in self._files:
            with self._lock:
                if size not in self._files:
                    self._files[size] = self._opened(size, room)
        return self._files[size]

    def _opened(self, size: int, room: int) -> tuple[int, int]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.key}-{size}"
        frames, sums = path.with_suffix(".frames"), path.with_suffix(".sums")
        count = min(self.frames, self.most_bytes // room)
        # A full disk must not show after hours. Holes take no room yet.
        there = frames.stat().st_blocks * 512 if frames.exists() else 0
        missing = count * room - there - shutil.disk_usage(self.folder).free
        if missing > 0:
            raise InputError(
                f"{self.folder}: the cache of decoded frames would take {count * room / 1e9:.1f} "
                f"GB, {missing / 1e9:.1f} GB more than there are; choose another folder, or a "
                "smaller config.demonstrations.cache_gb"
            )
        opened = [os.open(file, os.O_RDWR | os.O_CREAT, 0o644) for file in (frames, sums)]
        return opened[0], opened[1]

    def __del__(self) -> None:
        """Closes the files."""
        for files in self._files.values():
            for file in files:
                os.close(file)


def _sum(data: bytes) -> int:
    """CRC-32, but never 0, which says that there is no frame."""
    return zlib.crc32(data) or 1
