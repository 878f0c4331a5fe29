"""A simulator process: receives jobs over a socket, replies to each, keeps one built simulator.

Run by `pool.SimulatorPool` as `python -m pi0_jax.env.workers.worker FD THREAD`. It is a fresh
interpreter that imports neither jax nor torch, not even through the parent's main module.
"""

import contextlib
import ctypes
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from pi0_jax.env.base import Job, Simulator, Task
from pi0_jax.env.workers.source import Reply
from pi0_jax.errors import InputError, first_line

_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_NO_MEMORY = ("failed to map segment", "annot allocate memory")  # as the dynamic loader says it


class SimulatorSlot:
    """The one simulator of a process: two GL contexts in one process disturb each other."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._simulator: Simulator | None = None

    def simulator(self, task: Task) -> Simulator:
        """The simulator of `task`, built unless it is there already."""
        if self._simulator is None or self._task != task:
            if self._simulator is not None:
                self._simulator.close()
            self.forget()
            # A GL context that is freed later would disturb the new one: pictures would be noise.
            gc.collect()
            self._simulator, self._task = task.build(), task
        return self._simulator

    def forget(self) -> None:
        """Drops a simulator that failed; its `close` might fail too."""
        self._simulator, self._task = None, None


def main() -> None:
    """Serves jobs from a socket, until it closes.

    Arguments are the socket's file descriptor, and "main" if the parent's main thread started it.
    """
    # The parent decides when a worker ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if sys.argv[2] == "main":
        _end_with_parent()
    connection = Connection(int(sys.argv[1]))
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    connection.send(Reply())  # ready
    bench = SimulatorSlot()
    while True:
        connection.send_bytes(answer(bench, inbox.get()))


def _listen(connection: Connection, inbox: "queue.SimpleQueue[bytes]") -> None:
    """Passes jobs on; ends the process when the parent has ended, even during a job."""
    try:
        while True:
            inbox.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _end_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, even if it is stopped by then."""
    # Strictly, when the thread ends that started it, so only where that is the main thread.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_fatal(error: Exception) -> bool:
    """Whether the same would happen in every worker: wrong input, or a package that is missing."""
    if isinstance(error, ImportError):
        # A library that did not fit into memory may fit next time.
        return not any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, InputError)


def answer(bench: SimulatorSlot, message: bytes) -> bytes:
    """Runs one pickled job and returns the pickled `Reply`."""
    built = False
    try:
        job: Job = pickle.loads(message)
        simulator = bench.simulator(job.task)
        built = True
        return pickle.dumps(Reply(job.function(simulator, *job.args)))
    # Any exception is sent to the parent, which decides whether the job runs again.
    except Exception as error:  # noqa: BLE001
        fatal = not built and _is_fatal(error)
        bench.forget()
        return pickle.dumps(Reply(error=_one_line(error), fatal=fatal))


def _one_line(error: Exception) -> str:
    """One line such as `ValueError: message (file.py:12 in function)`."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno} in {last.name}"
    return f"{type(error).__name__}: {first_line(error)} ({where})"


if __name__ == "__main__":
    main()
