"""Videos that stay open between two frames: each reading thread keeps those that it used last.

Opening an mp4 costs as much as decoding a frame of it. A container is used by one thread only.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import av

_KEPT = 8  # per thread: a file of lerobot's holds 200 MB of episodes, so a data set has few


class _Kept(threading.local):
    """The open containers of a thread by path, the one that was used last at the end."""

    def __init__(self) -> None:
        self.containers: OrderedDict[Path, Any] = OrderedDict()


_kept = _Kept()


def open_video(path: Path) -> tuple[Any, bool]:
    """A container of this thread, and whether it has just been opened.

    Args:
        path: the video file; as long as it is open, its content must not change.

    Raises:
        OSError, FFmpegError: it cannot be opened.
    """
    found = _kept.containers.get(path)
    if found is not None:
        _kept.containers.move_to_end(path)
        return found, False
    # A playlist would name further files, or addresses.
    container = av.open(str(path), options={"protocol_whitelist": "file"})
    if container.streams.video:
        # One frame at a time is wanted: threads of a decoder would only have to be started.
        container.streams.video[0].codec_context.thread_count = 1
    _kept.containers[path] = container
    if len(_kept.containers) > _KEPT:
        _kept.containers.popitem(last=False)[1].close()
    return container, True


def close_video(path: Path) -> None:
    """Forgets a container of this thread: after an error its decoder is in no known state."""
    found = _kept.containers.pop(path, None)
    if found is not None:
        found.close()
