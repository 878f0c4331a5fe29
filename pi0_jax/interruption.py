"""A wish to stop, from Ctrl-C or a scheduler: at once, or after what must not be lost.

A signal reaches the whole process, so there is one wish per process. Python handles signals in its
main thread, between two of its own instructions.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass
class _Wish:
    until: str = ""
    made: bool = False


_wish = _Wish()


def ask() -> str:
    """Asks the work to stop.

    Returns:
        Until when it goes on, such as "the end of one update and one save": it is in a `deferred`
        block.

    Raises:
        KeyboardInterrupt: it is in none, so it stops here.
    """
    if not _wish.until:
        raise KeyboardInterrupt
    _wish.made = True
    return _wish.until


@contextlib.contextmanager
def deferred(until: str) -> Iterator[Callable[[], bool]]:
    """A block that is not interrupted, but can ask whether it should come to its end.

    Args:
        until: what a person who asks waits for, such as "the end of one update and one save".

    Yields:
        A function that says whether a stop was asked for since the block began.

    Raises:
        KeyboardInterrupt: at the end of the block, if so.
    """
    # In a block of this kind already: the outer one ends the work.
    outer, _wish.until = _wish.until, _wish.until or until
    try:
        yield lambda: _wish.made
    finally:
        _wish.until = outer
    if _wish.made and not outer:
        _wish.made = False
        raise KeyboardInterrupt
