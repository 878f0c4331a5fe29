"""Batches ahead of need: the next ones are read and decoded while the device works on this one.

Batches are a function of the step alone, so nothing has to be remembered: a run that is killed and
resumed draws the very next sample.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

B = TypeVar("B")


class Ahead(Generic[B]):
    """A function of the step whose next values are computed before they are asked for.

    Args:
        make: step -> batch; called in threads, each step once, ahead of its turn.
        end: the first step that will not be asked for.
        depth: how many batches may be ready or under way besides the one that is asked for.
    """

    def __init__(self, make: Callable[[int], B], end: int, depth: int = 2) -> None:
        self._make, self._end, self._depth = make, end, depth
        self._made: dict[int, Future[B]] = {}
        # One thread: a batch is decoded by threads of its own, and earlier ones come first.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __enter__(self) -> "Ahead[B]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, step: int) -> B:
        """The batch of a step; steps are asked for one after the other, from any on.

        Raises:
            Exception: what `make` raised for this step.
        """
        wanted = range(step, min(step + self._depth + 1, max(self._end, step + 1)))
        # After a jump, what was made for other steps is of no use.
        for other in [other for other in self._made if other not in wanted]:
            self._made.pop(other).cancel()
        for one in wanted:
            if one not in self._made:
                self._made[one] = self._thread.submit(self._make, one)
        return self._made.pop(step).result()

    def close(self) -> None:
        """Ends the thread; a batch that it is making is not waited for longer than it takes."""
        self._thread.shutdown(wait=True, cancel_futures=True)
