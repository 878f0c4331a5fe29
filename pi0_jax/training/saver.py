"""Checkpoints that training does not wait for: copied to the host at once, written meanwhile.

Of several hosts the first has the copy and writes it; all take part in the copying.
"""

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from pi0_jax.errors import first_line
from pi0_jax.hosts import talk
from pi0_jax.interruption import deferred
from pi0_jax.io.place import free_memory, size_text
from pi0_jax.training import checkpoint
from pi0_jax.training.checkpoint import KEEP, Leaves
from pi0_jax.training.frozen import NOTHING, Frozen
from pi0_jax.training.sharding import on_first_host
from pi0_jax.training.step import TrainState

_UNTIL = "the end of the save that is under way"


class Saver:
    """Saves and restores the checkpoints of one training; a context, whose end waits for the disk.

    At most one is being written: the next save waits for it, and raises its error.

    Attributes:
        folder: where all checkpoints of the training lie.
        keep: how many of the newest stay.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = KEEP,
        frozen: Frozen = NOTHING,
        say: Callable[[str], None] = lambda line: None,
        run: str = "",
    ) -> None:
        """Starts nothing yet.

        Args:
            folder: where all checkpoints of the training lie.
            keep: how many of the newest stay.
            frozen: leaves that are left out.
            say: takes one line for a person at a time.
            run: name of the run, which every checkpoint bears; "" for none.
        """
        self.folder, self.keep = folder, keep
        self._frozen, self._say = frozen, say
        self._run = {checkpoint.RUN: run} if run else {}
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._told = False

    def save(
        self,
        step: int,
        state: TrainState,
        host: dict[str, Any],
        also: Collection[int] = (),
        first: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Copies a state to the host, and begins to write it; first waits for the save before.

        Args:
            step: number of the optimizer step, which names the checkpoint.
            state: training state on the device; it may be donated afterwards.
            host: JSON values that the host needs to continue.
            also: steps of which the newest checkpoint stays too.
            first: writes what must be on the disk before the checkpoint is, and gives
                further values such as `host`, which are known only then.

        Raises:
            OSError: the disk is full, or was at the save before.
        """
        # Whoever stops the run waits for a save that is under way.
        with deferred(_UNTIL):
            self.wait()
            leaves = checkpoint.leaves_of(state, self._frozen)
            background = talk.first(lambda: self._has_memory(checkpoint.size_of(leaves)))
            # What lies on several hosts cannot be written from where it is.
            kept = _on_host(leaves) if background or talk.count() > 1 else leaves

            def write() -> None:
                values = host | first() | self._run
                checkpoint.write(self.folder, step, kept, values, self.keep, also, self._frozen)

            if background:
                self.begin(write)
            elif talk.leads():
                write()

    def begin(self, work: Callable[[], None]) -> None:
        """Begins to write something in the background; first waits for the save before.

        Raises:
            OSError: as `wait`.
        """
        with deferred(_UNTIL):
            self.wait()
            if talk.leads():
                self._writing = self._thread.submit(work)

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of a checkpoint, the newest if none is named (`checkpoint.restore`)."""
        self.wait()
        return checkpoint.restore(self.folder, like, step, self._frozen)

    def wait(self) -> None:
        """Waits until what was saved is on the disk; a stop waits for it too.

        Raises:
            OSError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            with deferred(_UNTIL):
                writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.wait()
            else:
                self._end()
        finally:
            self._thread.shutdown()

    def _end(self) -> None:
        """Waits after an error of the training, which goes on its way whatever becomes of this."""
        if self._writing is not None and not self._writing.done():
            self._say("waiting for the checkpoint that is being written")
        try:
            self.wait()
        except (OSError, RuntimeError, ValueError) as fault:
            self._say(f"warning: the newest checkpoint was not written: {first_line(fault)}")

    def _has_memory(self, size: int) -> bool:
        """Whether the host has room for a copy; where it has none, that is said once."""
        free = free_memory()
        enough = free is None or size <= free
        if not enough and not self._told:
            self._told = True
            self._say(
                f"warning: checkpoints are written while training waits: a copy of "
                f"{size_text(size)} needs more host memory than is free ({size_text(free or 0)})"
            )
        return enough


def _on_host(leaves: Leaves) -> dict[str, np.ndarray]:
    """Copies of leaves, which the next update cannot change."""
    whole = on_first_host(leaves)
    # A CPU's arrays are host memory: what comes of them is that memory itself.
    return jax.tree.map(np.array, whole) if jax.default_backend() == "cpu" else whole
