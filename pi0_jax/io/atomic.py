"""Files and folders that appear under their names only when they are whole.

Everything is written beside its place and then renamed, which a file system does in one step. This
is the one place that does so: whoever writes what another process may read goes through here.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pi0_jax.io.place import check_free


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its name when the block ends without an error.

    Args:
        path: file to make or to replace; its parent folders are made.

    Yields:
        The path to write to. After an error nothing is there, and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending comes last: who looks for *.npz must not find what is not whole.
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
    # A link stays; what it points at is replaced. It also gives "." and ".." a name.
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    # Names that no user gives to a backup of his own.
    partial, old = (path.with_name(f".{path.name}.pi0_jax-{end}") for end in ("partial", "old"))
    # What a killed process left; nobody reads it.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace(path, partial, old)
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
            # Another process may have put something into a parent meanwhile.
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


def _replace(path: Path, new: Path, old: Path) -> None:
    """Gives `new` the name `path`; what has it steps aside first, for a moment, as `old`."""
    if not path.exists():
        new.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        new.rename(path)
    finally:
        if not path.exists():
            old.rename(path)
    shutil.rmtree(old)
