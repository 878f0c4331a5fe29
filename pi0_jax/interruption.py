"""A wish to stop, from Ctrl-C or a scheduler: at once, or after what must not be lost.

A signal reaches the whole process, so there is one wish per process. Python handles signals in its
main thread, between two of its own instructions.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass
class _Wish:
    deferred: bool = False
    made: bool = False


_wish = _Wish()


def ask() -> bool:
    """Asks the work to stop.

    Returns:
        True: it stops at the end of the `deferred` block that it is in.

    Raises:
        KeyboardInterrupt: it is in none, so it stops here.
    """
    if not _wish.deferred:
        raise KeyboardInterrupt
    _wish.made = True
    return True


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """A block that is not interrupted, but can ask whether it should come to its end.

    Yields:
        A function that says whether a stop was asked for since the block began.

    Raises:
        KeyboardInterrupt: at the end of the block, if so.
    """
    # In a block of this kind already: the outer one ends the work.
    outer, _wish.deferred = _wish.deferred, True
    try:
        yield lambda: _wish.made
    finally:
        _wish.deferred = outer
    if _wish.made and not outer:
        _wish.made = False
        raise KeyboardInterrupt
