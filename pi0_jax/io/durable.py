"""Files that survive a power cut: their bytes, and their names, are on the disk.

A write or a rename reaches the disk some 30 s later, each in its own time, unless it is asked for:
by an fsync of the file for its bytes, and of its folder for its name.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# What a file system answers that has no such call for folders, as some network disks.
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk; its name is another matter (`sync_folder`)."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk, those that are gone included."""
    with _opened(path) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SUCH_CALL:
                raise


def sync_tree(folder: Path) -> None:
    """`sync_file` and `sync_folder` of everything in a folder, and of itself; links are left."""
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir():
            sync_tree(path)
        elif path.is_file():
            sync_file(path)
    sync_folder(folder)


def make_folder(path: Path) -> None:
    """Makes a folder with its parents, all of whose names are then on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def rename(path: Path, name: Path) -> None:
    """Renames a file or a folder within its folder; what had the new name is replaced."""
    path.replace(name)
    sync_folder(name.parent)


def remove_folder(folder: Path, hidden: Path) -> None:
    """Removes a folder so that nobody meets a part of it, also after an interruption.

    Args:
        folder: folder to remove.
        hidden: name beside it that it has meanwhile; what a killed process left there goes too.
    """
    shutil.rmtree(hidden, ignore_errors=True)
    # A folder is removed file by file, but renamed at once.
    rename(folder, hidden)
    shutil.rmtree(hidden)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
