"""A folder that one process alone may fill."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pi0_jax.errors import InputError


@contextlib.contextmanager
def alone_in(folder: Path, name: Path) -> Iterator[None]:
    """Holds a lock on a folder for the block; it ends with the process too, also by a kill.

    Args:
        folder: exists; in the block it may be renamed or removed.
        name: what the user knows it by.

    Raises:
        InputError: another process, or thread, holds it.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        _lock(held, name)
        yield
    finally:
        os.close(held)


def _lock(held: int, name: Path) -> None:
    try:
        # Of the open folder and not of the process, so that it holds between threads too.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{name}: another process is making it; wait for it, and run this again"
        ) from error
    except OSError:
        # A file system without locks: the user must take care.
        pass
