"""Files and folders that appear under their names only when they are whole, and on the disk.

Everything is written beside its place, waited for until it is on the disk, and then renamed, which
a file system does in one step. All code that writes what another process may read uses this module.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_jax.io.alone import TakenError, alone_in, alone_in_new
from pi0_jax.io.digests import write_digests
from pi0_jax.io.durable import make_folder, remove_folder, rename, sync_file, sync_tree
from pi0_jax.io.place import check_free
from pi0_jax.io.settle import digest, settling
from pi0_jax.listing import below

# Hidden, and with another ending: a search for *.npz must not find an unfinished file. Those of
# folders are names that no user would give to a backup.
_PARTIAL_FILE, _PARTIAL = ".partial", ".pi0_jax-partial"
# A folder that is about to be replaced, and one that is being removed.
_OLD, _GONE = ".pi0_jax-old", ".pi0_jax-gone"
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
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}{_PARTIAL_FILE}")
    try:
        with naming(path):
            yield partial
        # Before the rename: a name on the disk must not come before the bytes.
        sync_file(partial)
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, as `atomic_file` does."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives errors of the operating system the name of what was written, where they have none."""
    try:
        yield
    except OSError as error:
        # A full disk is noticed by a write, which knows no name.
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def atomic_folder(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A folder beside `path` that takes its name when the block ends without an error.

    Args:
        path: folder to make, with its parents, or to replace with all that it holds.
        check: raises if `path` may not be replaced; called before the block and at its end, right
            before the folder takes its name.

    Yields:
        The folder to fill. After an error nothing of it is left, and `path` is as it was.

    Raises:
        TakenError: another process is making it.
    """
    # A link stays a link, and its target is replaced. "." and ".." get a name that way too.
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    partial, old = (path.with_name(f".{path.name}{ending}") for ending in (_PARTIAL, _OLD))
    if partial.exists():
        with alone_in(partial, path):
            # What a killed process left.
            shutil.rmtree(partial, ignore_errors=True)
    _give_back(old, path)
    check()
    ours = True
    with contextlib.ExitStack() as held:
        try:
            try:
                # In the block: whoever stops the work here must find nothing either.
                held.enter_context(alone_in_new(partial, path))
            except TakenError:
                ours = False
                raise
            yield partial
            sync_tree(partial)
            check()
            _replace(path, partial, old)
            ours = False  # what has this name from here on is another process's
        finally:
            if ours and partial.exists():
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
        InputError: `path` exists and may not be replaced, or nothing may be made there; also where
            somebody else made it while the block ran.
    """

    def check() -> None:
        """What is there by now may be replaced, or nothing is there."""
        check_free(path, overwrite=overwrite)

    # Also before what a killed process left is looked at.
    check()
    with atomic_folder(path, check) as folder:
        with settling(folder) as settled:
            yield folder
        write_digests(folder, lambda file: digest(file, settled))


def remove(folder: Path) -> None:
    """Removes a folder; a process that is killed meanwhile leaves nothing under its name."""
    remove_folder(folder, folder.with_name(f".{folder.name}{_GONE}"))


def clean(folder: Path) -> list[str]:
    """Removes what killed processes left unfinished, or not wholly removed, anywhere in a folder.

    Nobody else may be writing there. A folder that was about to be replaced gets its name back.

    Returns:
        What was removed, as paths relative to `folder`.
    """
    left = [path for path in below(folder, ".*") if is_unfinished(path)]
    for path in left:
        if path.name.endswith(_OLD):
            _give_back(path, path.with_name(path.name[1 : -len(_OLD)]))
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            # It may have been in a folder that is gone by now.
            path.unlink(missing_ok=True)
    return [str(path.relative_to(folder)) for path in left]


def is_unfinished(path: Path) -> bool:
    """Whether a name is that of something which is being written, replaced or removed."""
    endings = (_PARTIAL_FILE, _PARTIAL, _OLD, _GONE)
    return path.name.startswith(".") and path.name.endswith(endings)


def _give_back(old: Path, path: Path) -> None:
    """Ends an interrupted replacement: the folder that was there before has its name, or goes."""
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        rename(old, path)


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
        rename(new, path)
        return
    rename(path, old)
    try:
        rename(new, path)
    finally:
        # The second rename failed: the earlier folder gets its name back.
        _give_back(old, path)
