"""One worker process, seen from the parent: start, send, receive, kill."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import cloudpickle

from pi0_jax.env.base import Job
from pi0_jax.env.robosuite.gl import egl_device
from pi0_jax.env.workers.source import Reply, WorkerDiedError

HOST = "this machine"

_MESSAGE_TIMEOUT_S = 10
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")


class WorkerProcess:
    """The `Worker` that is a fresh interpreter, which runs `pi0_jax.env.workers.worker`.

    Args:
        renderer: value of MUJOCO_GL in it.
        number: of its seat; several GPUs draw for the seats in turn.

    Attributes:
        host: the same for all.
        connection: becomes readable when a reply has come or the process has ended.
    """

    host = HOST

    def __init__(self, renderer: str, number: int) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        main = threading.current_thread() is threading.main_thread()
        thread = "main" if main else "other"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pi0_jax.env.workers.worker", str(theirs.fileno()), thread],
                pass_fds=[theirs.fileno()],
                env=_environment(renderer, number),
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

    @property
    def name(self) -> str:
        """With its process id."""
        return f"worker {self.pid}"

    def send(self, job: Job) -> None:
        """Sends a job. If the process has ended or stopped, that shows later: no reply comes."""
        # Classes of a script or notebook exist in no module that a worker could import: cloudpickle
        # sends their code along.
        message = cloudpickle.dumps(job)
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def answered(self) -> bool:
        """Whether `receive` would return or raise at once."""
        return self.connection.poll()

    def receive(self) -> Reply:
        """The next reply.

        Raises:
            WorkerDiedError: the process ended, or stopped in the middle of its reply.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(f"{self.name} ended ({self._end()})") from error

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


def _environment(renderer: str, number: int) -> dict[str, str]:
    device = egl_device(number) if renderer == "egl" else None
    return {
        **os.environ,
        **simulator_variables(renderer),
        **({} if device is None else {"MUJOCO_EGL_DEVICE_ID": device}),
        # Whatever this process can import, a job may need.
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }


def simulator_variables(renderer: str) -> dict[str, str]:
    """Environment variables of a worker, wherever it runs.

    One thread per worker: the parallelism is in the number of workers.
    """
    return {
        **{f"{name}_NUM_THREADS": "1" for name in _THREADS},
        "LP_NUM_THREADS": "0",
        "MUJOCO_GL": renderer,
        "PYOPENGL_PLATFORM": renderer,
        "MPLCONFIGDIR": str(Path(tempfile.gettempdir()) / f"matplotlib-{os.getuid()}"),
    }
