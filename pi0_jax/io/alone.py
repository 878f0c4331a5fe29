"""A folder that one process alone may fill."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.io.durable import make_folder, sync_folder


class TakenError(InputError):
    """Another process, or thread, is making the folder."""

    def __init__(self, name: Path):
        """Says what to do; `name` is what the user knows the folder by."""
        super().__init__(f"{name}: another process is making it; wait for it, and run this again")


@contextlib.contextmanager
def alone_in_new(folder: Path, name: Path) -> Iterator[None]:
    """As `alone_in`, of a folder that it makes, with its parents.

    Raises:
        TakenError: it is there.
    """
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise TakenError(name) from error
    sync_folder(folder.parent)
    with alone_in(folder, name):
        yield


@contextlib.contextmanager
def alone_in(folder: Path, name: Path) -> Iterator[None]:
    """Holds a lock on a folder for the block; it ends with the process too, also by a kill.

    Args:
        folder: in the block it may be renamed or removed.
        name: what the user knows it by.

    Raises:
        TakenError: another process, or thread, holds it, or has just removed it.
    """
    try:
        held = os.open(folder, os.O_RDONLY)
    except FileNotFoundError as error:
        raise TakenError(name) from error
    try:
        _lock(held, name)
        # Before the lock, another one may have removed it, and made one of the same name.
        if not folder.exists() or not os.path.samestat(os.fstat(held), folder.stat()):
            raise TakenError(name)
        yield
    finally:
        os.close(held)


def _lock(held: int, name: Path) -> None:
    try:
        # Of the open folder and not of the process, so that it holds between threads too.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TakenError(name) from error
    except OSError:
        # A file system without locks: the user must take care.
        pass
