"""One worker process, seen from the parent: start, send, receive, kill."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from pi0_jax.env.base import Job

_MESSAGE_TIMEOUT_S = 10
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")


@dataclass(frozen=True)
class Reply:
    """A worker's answer to one job.

    Attributes:
        result: what the job's function returned; None after an error.
        error: one line with what was raised and where, or None.
        fatal: whether every job of the task would have this error: a package or a library is
            missing.
    """

    result: Any = None
    error: str | None = None
    fatal: bool = False


class WorkerDiedError(Exception):
    """The process has ended; the message is how: its signal or exit code."""


class WorkerProcess:
    """A fresh interpreter that runs `pi0_jax.env.workers.worker`.

    Args:
        renderer: value of MUJOCO_GL in it.

    Attributes:
        connection: becomes readable when a reply has come or the process has ended.
    """

    def __init__(self, renderer: str) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        main = threading.current_thread() is threading.main_thread()
        thread = "main" if main else "other"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pi0_jax.env.workers.worker", str(theirs.fileno()), thread],
                pass_fds=[theirs.fileno()],
                env=_environment(renderer),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            )
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            # A worker stopped in the middle of a message must not stop the parent with it.
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_TIMEOUT_S, 0))
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, job: Job) -> None:
        """Sends a job. If the process has ended or stopped, that shows later: no reply comes."""
        # Classes of a script or notebook exist in no module that a worker could import: cloudpickle
        # sends their code along.
        message = cloudpickle.dumps(job)
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def receive(self) -> Reply:
        """The next reply.

        Raises:
            WorkerDiedError: the process ended, or stopped in the middle of its reply.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(f"worker {self.pid} ended ({self._end()})") from error

    def _end(self) -> str:
        try:
            code = self._process.wait(_MESSAGE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "it stopped in the middle of its answer"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def last_words(self) -> str:
        """The last line the process wrote to stdout or stderr; empty if there is none."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def kill(self) -> None:
        """Ends the process, even a stopped one, and frees its resources."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._log.close()


def _environment(renderer: str) -> dict[str, str]:
    """One thread per worker: the parallelism is in the number of workers."""
    quiet = {f"{name}_NUM_THREADS": "1" for name in _THREADS}
    return {
        **os.environ,
        **quiet,
        "LP_NUM_THREADS": "0",
        "MUJOCO_GL": renderer,
        "PYOPENGL_PLATFORM": renderer,
        "MPLCONFIGDIR": str(Path(tempfile.gettempdir()) / f"matplotlib-{os.getuid()}"),
        # Whatever this process can import, a job may need.
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
