"""N worker processes that map job functions over values, and survive whatever happens to them.

Workers hold no episode, so a worker that is killed, hangs or raises costs the job it was running,
which another runs again with the same result. An error that stays is reported as an error of the
simulator; it is never a failure of the policy.
"""

import collections
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from pi0_jax.env.base import Done, Job, results_of
from pi0_jax.env.workers.process import WorkerDiedError, WorkerProcess
from pi0_jax.errors import InputError

START_TIMEOUT_S = 120.0  # for a worker to import what it needs; seconds on a busy machine
BUILD_TIMEOUT_S = 180.0  # added for the first job of a task in a worker, which builds it

_logger = logging.getLogger(__name__)


def cores() -> int:
    """Cores that this process may use; a container or `taskset` may give fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(eq=False)
class _Pending:
    """A job on its way: `failures` attempts have gone wrong, the last on worker `shunned`."""

    ticket: int
    job: Job
    failures: int = 0
    shunned: "_Seat | None" = None


class _Seat:
    """One place in the pool: a process, what it has built, and the job it is running."""

    def __init__(self, renderer: str) -> None:
        self._renderer = renderer
        self.process = WorkerProcess(renderer)
        self._begin()

    def _begin(self) -> None:
        self.ready = False
        self.task: Any = None
        self.current: _Pending | None = None
        self._limit(START_TIMEOUT_S)

    def _limit(self, seconds: float) -> None:
        self.limit_s, self.deadline = seconds, time.monotonic() + seconds

    def replace(self) -> None:
        """Ends the process, whatever it is doing, and starts another."""
        self.process.kill()
        self.process = WorkerProcess(self._renderer)
        self._begin()

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return self.ready and self.current is None

    def give(self, pending: _Pending, timeout_s: float) -> None:
        """Hands a job to the process."""
        builds = self.task != pending.job.task
        self._limit(timeout_s + BUILD_TIMEOUT_S * builds)
        self.task, self.current = pending.job.task, pending
        self.process.send(pending.job)


class SimulatorPool:
    """The `Engine` of one machine: `workers` processes; a context manager.

    Args:
        workers: number of processes.
        timeout_s: seconds a job may take once its simulator is built; then its worker is killed.
        retries: how often a job that failed is run again before it is given up.
        renderer: MuJoCo's GL backend in the workers (`gl.choose_renderer`).
    """

    def __init__(
        self, workers: int, timeout_s: float, retries: int = 2, renderer: str = "osmesa"
    ) -> None:
        if workers < 1:
            raise InputError(f"expected at least 1 simulator worker, got {workers}")
        if timeout_s <= 0:
            raise InputError(f"expected a time limit above 0 s for a job, got {timeout_s}")
        self._timeout_s, self._retries, self._renderer = timeout_s, retries, renderer
        self._tickets = 0
        self._queue: collections.deque[_Pending] = collections.deque()
        self._done: list[Done] = []
        self._failed_starts = 0
        self._seats = [_Seat(renderer) for _ in range(workers)]

    def __enter__(self) -> "SimulatorPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Number of worker processes."""
        return len(self._seats)

    @property
    def renderer(self) -> str:
        """MuJoCo's GL backend in the workers."""
        return self._renderer

    @property
    def backlog(self) -> int:
        """Number of jobs not yet handed to a worker."""
        return len(self._queue)

    def submit(self, job: Job) -> int:
        """Queues a job and returns its ticket; any idle worker takes it."""
        self._tickets += 1
        self._queue.append(_Pending(self._tickets, job))
        self._dispatch()
        return self._tickets

    def gather(self, timeout_s: float | None = None) -> list[Done]:
        """All jobs that are over; waits for at least one.

        Returns an empty list after `timeout_s`, and at once if nothing was submitted.

        Raises:
            InputError: workers cannot start, or a task cannot be built for want of a package.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._poll(end)
            done, self._done = self._done, []
            over = end is not None and time.monotonic() >= end
            if done or over or not self._outstanding:
                return done

    def run_all(
        self, jobs: Iterable[Job], report: Callable[[list[Done]], None] = lambda done: None
    ) -> list[Done]:
        """All jobs to their end, in their order. For a pool with nothing else under way.

        Args:
            jobs: to run.
            report: called with what is over so far, in the order in which it came.
        """
        tickets = [self.submit(job) for job in jobs]
        over: dict[int, Done] = {}
        while len(over) < len(tickets):
            over |= {done.ticket: done for done in self.gather()}
            report(list(over.values()))
        return [over[ticket] for ticket in tickets]

    def map(
        self, jobs: Iterable[Job], report: Callable[[list[Any]], None] = lambda results: None
    ) -> list[Any]:
        """Results of all jobs, as `run_all`.

        Raises:
            RuntimeError: a job failed more than `retries` times; with its error.
        """
        return results_of(self.run_all(jobs, lambda over: report(results_of(over))))

    def close(self) -> None:
        """Ends all workers at once; jobs under way are lost."""
        for seat in self._seats:
            seat.process.kill()
        self._seats = []

    @property
    def _outstanding(self) -> bool:
        return bool(self._queue) or any(seat.current is not None for seat in self._seats)

    def _poll(self, end: float | None) -> None:
        """Waits until something happens or is overdue, and deals with it."""
        now = time.monotonic()
        moments = [seat.deadline for seat in self._seats if not seat.idle]
        until = min(moments + ([] if end is None else [end])) if self._outstanding else now
        seats: dict[Any, _Seat] = {seat.process.connection: seat for seat in self._seats}
        for connection in wait(list(seats), max(0.0, until - now)):
            self._receive(seats[connection])
        now = time.monotonic()
        for seat in self._seats:
            # An answer that is already there counts, however late it is read.
            if not seat.idle and now > seat.deadline and not seat.process.connection.poll():
                self._lost(
                    seat, f"worker {seat.process.pid} hangs: no answer in {seat.limit_s:g} s"
                )
        self._dispatch()

    def _receive(self, seat: _Seat) -> None:
        try:
            reply = seat.process.receive()
        except WorkerDiedError as death:
            self._lost(seat, str(death))
            return
        if reply.fatal:
            raise InputError(f"cannot build {seat.task.name!r}: {reply.error}")
        self._failed_starts = 0
        pending, seat.current, seat.ready = seat.current, None, True
        if pending is None:
            return
        if reply.error is None:
            self._done.append(Done(pending.ticket, reply.result, None))
        else:
            seat.task = None  # the worker let go of the simulator that raised
            self._retry(pending, seat, reply.error)

    def _lost(self, seat: _Seat, why: str) -> None:
        """Replaces a worker that is dead or hangs; its job runs again elsewhere."""
        if not seat.ready:
            self._count_failed_start(seat, why)
        _logger.warning("%s; it is replaced", why)
        pending = seat.current
        seat.replace()
        if pending is not None:
            self._retry(pending, seat, why)

    def _count_failed_start(self, seat: _Seat, why: str) -> None:
        cause = seat.process.last_words()
        self._failed_starts += 1
        if cause or self._failed_starts > self._retries:
            raise InputError(f"simulator workers cannot start: {cause or why}")

    def _retry(self, pending: _Pending, seat: _Seat, why: str) -> None:
        pending.failures += 1
        pending.shunned = seat
        if pending.failures > self._retries:
            message = f"{pending.job.task.name}: {why}, after {pending.failures} attempts"
            self._done.append(Done(pending.ticket, None, message))
        else:
            _logger.warning("%s: %s; running it again", pending.job.task.name, why)
            self._queue.appendleft(pending)

    def _dispatch(self) -> None:
        """Gives every idle worker a job, of the task it has built if there is one."""
        for seat in self._seats:
            if seat.idle and self._queue:
                pending = self._choose(seat)
                if pending is not None:
                    self._queue.remove(pending)
                    seat.give(pending, self._timeout_s)

    def _choose(self, seat: _Seat) -> _Pending | None:
        others = any(other is not seat and other.ready for other in self._seats)
        fit = [p for p in self._queue if not (others and p.shunned is seat)]
        same = (pending for pending in fit if pending.job.task == seat.task)
        return next(same, fit[0] if fit else None)
