"""Files go to the disk, and get their digests, while others of their folder are still being made.

At the end of minutes of writing, waiting for the disk and reading everything once more would be a
sixth of the whole. So a thread writes to the disk what has grown, and reads what seems complete. It
only saves time: what changes later, or was not seen in time, is waited for and read at the end.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pi0_jax.io.digests import crc32
from pi0_jax.io.durable import sync_file

_LOOK_S = 0.5  # between two looks: longer than the grain of the times of any local file system


class Seen(NamedTuple):
    """A file as a look found it; equal means that nobody has written to it in between.

    Attributes:
        inode: its number.
        size: bytes.
        time_ns: of its last change [ns].
    """

    inode: int
    size: int
    time_ns: int


Settled = Mapping[Path, tuple[Seen, str]]
"""File -> how it was when it was read, and its CRC-32."""


@contextlib.contextmanager
def settling(folder: Path) -> Iterator[Settled]:
    """A block that fills a folder, meanwhile a thread settles the files that are complete.

    Args:
        folder: it may be removed in the block.

    Yields:
        What has been settled; complete once the block has ended.
    """
    found: dict[Path, tuple[Seen, str]] = {}
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder, found, over), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        # Whoever stops the work does not wait for the disk.
        over.set()
    thread.join()


def digest(path: Path, settled: Settled) -> str:
    """The CRC-32 of a file, which is read only if it has changed since it was settled."""
    seen, known = settled.get(path, (None, ""))
    return known if seen == _seen(path) else crc32(path)


def _follow(folder: Path, found: dict[Path, tuple[Seen, str]], over: threading.Event) -> None:
    before: dict[Path, Seen] = {}
    while not over.wait(_LOOK_S):
        now: dict[Path, Seen] = {}
        # A file that goes, or a disk that fails: the writer meets it too, and tells.
        with contextlib.suppress(OSError):
            now = {path: _seen(path) for path in folder.rglob("*") if path.is_file()}
        for path, seen in now.items():
            if over.is_set():
                return
            if found.get(path, (None,))[0] == seen:
                continue
            with contextlib.suppress(OSError):
                if before.get(path) == seen:
                    found[path] = seen, crc32(path)
                else:
                    # Also of one that still grows: less is left for the end.
                    sync_file(path)
        before = now


def _seen(path: Path) -> Seen:
    stat = path.stat()
    return Seen(stat.st_ino, stat.st_size, stat.st_mtime_ns)
