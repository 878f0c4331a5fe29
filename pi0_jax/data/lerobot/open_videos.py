"""Videos that stay open between two frames: each reading thread keeps those that it used last.

Opening an mp4 costs as much as decoding a frame of it. A container is used by one thread only.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import av

from pi0_jax.errors import InputError
from pi0_jax.plain_file import check_file

MOST_PIXELS = 2**25
"""Of a picture or a frame, 5793 squared: a bomb declares more, and unpacks to gigabytes."""

_CONTAINERS = {"mp4", "matroska", "avi"}
_KEPT = 8  # per thread: a file of lerobot's holds 200 MB of episodes, so a data set has few


class _Kept(threading.local):
    """The open containers of a thread by path, the one that was used last at the end."""

    def __init__(self) -> None:
        self.containers: OrderedDict[Path, Any] = OrderedDict()


_kept = _Kept()


def open_file(path: Path) -> Any:
    """A container of its own; the caller closes it. The only place where a video is opened to read.

    Raises:
        InputError: it is no video file, or has more pixels than any camera; nothing is decoded.
        OSError, FFmpegError: it cannot be opened.
    """
    check_file(path)
    # A playlist would name further files, or addresses.
    container = av.open(str(path), options={"protocol_whitelist": "file"})
    try:
        _check(container, path)
    except InputError:
        container.close()
        raise
    return container


def _check(container: Any, path: Path) -> None:
    name, streams = container.format.name, container.streams.video
    if not _CONTAINERS & {*name.split(",")} or not streams:
        raise InputError(f"{path}: expected a video (mp4, mkv or avi), got {name}")
    if streams[0].width * streams[0].height > MOST_PIXELS:
        raise InputError(f"{path}: frames of {streams[0].width} x {streams[0].height} pixels")


def open_video(path: Path) -> Any:
    """A container of this thread, which it keeps.

    Args:
        path: the video file; as long as it is open, its content must not change.

    Raises:
        InputError, OSError, FFmpegError: as `open_file`.
    """
    found = _kept.containers.get(path)
    if found is not None:
        _kept.containers.move_to_end(path)
        return found
    container = open_file(path)
    # One frame at a time is wanted: threads of a decoder would only have to be started.
    container.streams.video[0].codec_context.thread_count = 1
    _kept.containers[path] = container
    if len(_kept.containers) > _KEPT:
        _kept.containers.popitem(last=False)[1].close()
    return container


def close_video(path: Path) -> None:
    """Forgets a container of this thread: after an error its decoder is in no known state."""
    found = _kept.containers.pop(path, None)
    if found is not None:
        found.close()
