"""A kill -9 before every change of the file system, then the same command again.

The states that such kills leave are replayed from one recorded run (`disk.py`): what a process has
written stays when it is killed. States that differ only inside what is being written, which nobody
reads and the next start removes, are resumed once.
"""

import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pi0_jax.io.atomic import is_unfinished
from torture.compare import differences
from torture.disk import Cut, write_tree
from torture.recorder import Change


@functools.cache
def unread(name: str) -> bool:
    """Whether a name is that of something unfinished, which nobody reads."""
    # A folder that was about to be replaced gets its name back, so it is read.
    return is_unfinished(Path(name)) and not name.endswith(".pi0_jax-old")


def resume_all(
    chosen: Iterable[Cut], work: Path, again: Callable[[Path], str], wanted: Path, compared: str
) -> Iterator[tuple[Cut, list[str]]]:
    """Runs a command again from each state.

    Args:
        chosen: the states.
        work: the root, which is made anew for each state (paths stand in stored configs).
        again: runs the command on it; returns its error.
        wanted: root of the unbroken run.
        compared: the folder in both that must be equal.

    Yields:
        Each state with what was wrong.
    """
    for cut in chosen:
        shutil.rmtree(work, ignore_errors=True)
        write_tree(work, cut.tree)
        error = again(work)
        yield cut, [error] if error else differences(wanted / compared, work / compared)


def spread(chosen: Sequence[Cut], count: int) -> list[Cut]:
    """At most `count` of some states, evenly from the first to the last."""
    if len(chosen) <= count:
        return list(chosen)
    last = len(chosen) - 1
    return [chosen[round(i * last / (count - 1))] for i in range(count)]


def describe(root: Path, changes: Sequence[Change], cut: Cut) -> str:
    """The change that a stop prevented."""
    if cut.number == len(changes):
        return "the end"
    change = changes[cut.number]
    prefix = f"{root.resolve()}/"
    return f"{change.kind.name} {(change.other or change.path).removeprefix(prefix)}"
