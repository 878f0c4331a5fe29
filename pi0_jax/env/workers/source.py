"""Workers as the pool sees them, wherever they run, and what gives them to the pool."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pi0_jax.env.base import Job


@dataclass(frozen=True)
class Reply:
    """A worker's answer to one job. Its first reply answers none: it says that it is ready.

    Attributes:
        result: what the job's function returned; None after an error.
        error: one line with what was raised and where, or None. Of the first reply: why no worker
            of this host can be used.
        fatal: whether every job of the task would have this error: a package or a library is
            missing.
    """

    result: Any = None
    error: str | None = None
    fatal: bool = False


class WorkerDiedError(Exception):
    """The worker has ended; the message is how: its signal or exit code."""


class Worker(Protocol):
    """A process that runs one job at a time and keeps no episode."""

    @property
    def host(self) -> str:
        """The machine that it is on, a key of `Source.hosts`; "" while it waits for one."""
        ...

    @property
    def name(self) -> str:
        """What messages call it, such as "worker 4711"."""
        ...

    def send(self, job: Job) -> None:
        """Sends a job. If the worker has ended or stopped, that shows later: no reply comes."""
        ...

    def answered(self) -> bool:
        """Whether `receive` would return or raise at once."""
        ...

    def receive(self) -> Reply:
        """The next reply.

        Raises:
            WorkerDiedError: the worker has ended.
        """
        ...

    def last_words(self) -> str:
        """The last line that it wrote; empty if there is none, or if nobody can know."""
        ...

    def kill(self) -> None:
        """Ends it, whatever it is doing, and frees its resources."""
        ...


W = TypeVar("W", bound=Worker)


class Source(Protocol[W]):
    """Where a pool gets its workers from: this machine, or a cluster."""

    @property
    def renderer(self) -> str:
        """MuJoCo's GL backend in the workers."""
        ...

    @property
    def limit(self) -> int:
        """The most workers that are wanted; 0 for as many as the hosts have places for."""
        ...

    def hosts(self) -> Mapping[str, int]:
        """Machines that are there now, and how many workers each has a place for."""
        ...

    def start(self, number: int, refused: Collection[str]) -> W:
        """Starts a worker for the seat of this number, on any host that is not refused."""
        ...

    def wait(self, workers: Sequence[W], timeout_s: float) -> list[W]:
        """Workers that have answered or ended; waits for one, at most `timeout_s`.

        May return an empty list earlier, for a look at `hosts`.
        """
        ...

    def close(self) -> None:
        """Lets go of the machines; all workers have been killed."""
        ...
