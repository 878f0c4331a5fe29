"""Files and folders that appear under their names only when they are whole.

Everything is written beside its place and then renamed, which a file system does in one step. All
code that writes what another process may read uses this module.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pi0_jax.io.place import check_free

# Of removing an unfinished folder, with the time that a write under way may take.
_TRIES, _WRITE_SECONDS = 20, 0.1


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its name when the block ends without an error.

    Args:
        path: file to make or to replace; its parent folders are made.

    Yields:
        The path to write to. After an error nothing is there, and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, and with another ending: a search for *.npz must not find an unfinished file.
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, as `atomic_file` does."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its name when the block ends without an error.

    Args:
        path: folder to make, with its parents, or to replace with all that it holds.

    Yields:
        The folder to fill. After an error nothing of it is left, and `path` is as it was.
    """
    # A link stays a link, and its target is replaced. "." and ".." get a name that way too.
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    # Names that no user would give to a backup.
    partial, old = (path.with_name(f".{path.name}.pi0_jax-{end}") for end in ("partial", "old"))
    # A killed process may have left one; nothing reads it.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace(path, partial, old)
    finally:
        if partial.exists():
            _remove(partial)
            # Another process may have put something into a parent in the meantime.
            with contextlib.suppress(OSError):
                for parent in made:
                    parent.rmdir()


@contextlib.contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An `atomic_folder` that replaces nothing of the user's.

    Args:
        path: folder to make, with its parents.
        overwrite: replace what is there, if pi0_jax wrote it (it has a manifest.json).

    Yields:
        The folder to fill.

    Raises:
        InputError: `path` exists and may not be replaced, or nothing may be made there.
    """
    check_free(path, overwrite=overwrite)
    with atomic_folder(path) as folder:
        yield folder


def _remove(folder: Path) -> None:
    """Removes a folder into which threads of a library may still be writing."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        # A write that was under way makes the folder anew.
        time.sleep(_WRITE_SECONDS)
        if not folder.exists():
            return


def _replace(path: Path, new: Path, old: Path) -> None:
    """Renames `new` to `path`; a folder that has this name is `old` for a moment, then removed."""
    if not path.exists():
        new.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        new.rename(path)
    finally:
        # The second rename failed: the earlier folder gets its name back.
        if not path.exists():
            old.rename(path)
    shutil.rmtree(old)
