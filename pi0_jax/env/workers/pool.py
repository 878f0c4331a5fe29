"""N worker processes that run jobs; the pool goes on if one of them dies, hangs or raises.

Workers keep no episode, so a worker that fails loses only the job that it was running, and another
worker runs it again with the same result. A job that fails in every attempt is reported as an error
of the simulator; it is never a failure of the policy.
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

START_TIMEOUT_S = 120.0  # for a worker to start; imports take seconds on a busy machine
BUILD_TIMEOUT_S = 180.0  # added for a worker's first job of a task, which builds the simulator

_logger = logging.getLogger(__name__)


def cores() -> int:
    """Number of cores that this process may use: with a container or `taskset`, not all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(eq=False)
class _Pending:
    """A job that has not ended: `failures` attempts have failed, the last one in seat `shunned`."""

    ticket: int
    job: Job
    failures: int = 0
    shunned: "_Seat | None" = None


# The states of a seat, and what moves it from one to the next:
#
#                    first reply               give
#      STARTING ---------------------> IDLE ----------> BUSY
#        ^  |                          |  ^             |  |
#        |  | died or                  |  |    reply    |  | died or
#        |  | too late            died |  +-------------+  | too late
#        |  v                          v                   v
#        +-- _lost (kills the process and starts another) <-+
#
#   STARTING  not ready, no job      deadline: START_TIMEOUT_S
#   IDLE      ready, no job          no deadline
#   BUSY      ready, with a job      deadline: the pool's timeout_s, + BUILD_TIMEOUT_S to build
#
# `_poll` waits for a reply, a death or a deadline. `_receive` reads a reply. A job whose reply is
# an error, or whose seat is `_lost`, goes to `_retry`: back to the front of the queue, for another
# seat if there is one, and after `retries` more failures to the caller as an error.
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
        """Kills the process, whatever it is doing, and starts another."""
        self.process.kill()
        self.process = WorkerProcess(self._renderer)
        self._begin()

    @property
    def idle(self) -> bool:
        """Whether it can take a job."""
        return self.ready and self.current is None

    def give(self, pending: _Pending, timeout_s: float) -> None:
        """Sends a job to the process."""
        # Another task than the last one: its simulator has to be built first.
        builds = self.task != pending.job.task
        self._limit(timeout_s + BUILD_TIMEOUT_S * builds)
        self.task, self.current = pending.job.task, pending
        self.process.send(pending.job)


class SimulatorPool:
    """The `Engine` of one machine: `workers` processes; a context manager.

    Args:
        workers: number of processes.
        timeout_s: seconds that a job may take after its simulator is built; then its worker is
            killed.
        retries: how often a job that failed is run again before its error is reported.
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
        """Number of jobs that wait for a worker."""
        return len(self._queue)

    def submit(self, job: Job) -> int:
        """Queues a job and returns its ticket; any idle worker takes it."""
        self._tickets += 1
        self._queue.append(_Pending(self._tickets, job))
        self._dispatch()
        return self._tickets

    def gather(self, timeout_s: float | None = None) -> list[Done]:
        """All jobs that have ended; waits for at least one.

        Returns an empty list after `timeout_s`, and at once if no job is queued or running.

        Raises:
            InputError: workers cannot start, or a task cannot be built because a package is
                missing.
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
        """Runs all jobs to their end and returns them in their order, while nothing else runs.

        Args:
            jobs: jobs to run.
            report: called with the jobs that have ended so far, in the order in which they ended.
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
            RuntimeError: a job failed more than `retries` times; the message is its error.
        """
        return results_of(self.run_all(jobs, lambda over: report(results_of(over))))

    def close(self) -> None:
        """Kills all workers; jobs that are running are lost."""
        for seat in self._seats:
            seat.process.kill()
        self._seats = []

    @property
    def _outstanding(self) -> bool:
        return bool(self._queue) or any(seat.current is not None for seat in self._seats)

    def _poll(self, end: float | None) -> None:
        """Waits for a reply, a death, a deadline or `end`, handles it, and gives out jobs."""
        now = time.monotonic()
        moments = [seat.deadline for seat in self._seats if not seat.idle]
        # Without any job there is nothing to wait for: only what has already happened is handled.
        until = min(moments + ([] if end is None else [end])) if self._outstanding else now
        seats: dict[Any, _Seat] = {seat.process.connection: seat for seat in self._seats}
        for connection in wait(list(seats), max(0.0, until - now)):
            self._receive(seats[connection])
        now = time.monotonic()
        for seat in self._seats:
            # A reply that has come is in time, even if it is read after the deadline.
            if not seat.idle and now > seat.deadline and not seat.process.connection.poll():
                self._lost(
                    seat, f"worker {seat.process.pid} hangs: no answer in {seat.limit_s:g} s"
                )
        self._dispatch()

    def _receive(self, seat: _Seat) -> None:
        """Reads what made a seat's connection readable: a reply, or the end of the process."""
        try:
            reply = seat.process.receive()
        except WorkerDiedError as death:
            self._lost(seat, str(death))
            return
        # Every attempt on every worker would fail in the same way.
        if reply.fatal:
            raise InputError(f"cannot build {seat.task.name!r}: {reply.error}")
        self._failed_starts = 0
        pending, seat.current, seat.ready = seat.current, None, True
        if pending is None:
            return  # the first reply, which says that the worker is ready
        if reply.error is None:
            self._done.append(Done(pending.ticket, reply.result, None))
        else:
            seat.task = None  # the worker has dropped the simulator that raised
            self._retry(pending, seat, reply.error)

    def _lost(self, seat: _Seat, why: str) -> None:
        """Replaces a worker that is dead or hangs; its job is run again by another one."""
        if not seat.ready:
            self._count_failed_start(seat, why)
        _logger.warning("%s; it is replaced", why)
        pending = seat.current  # `replace` forgets it
        seat.replace()
        if pending is not None:
            self._retry(pending, seat, why)

    def _count_failed_start(self, seat: _Seat, why: str) -> None:
        """Ends the run if workers cannot start, instead of starting them for ever."""
        # A worker that printed why it ended would do so again; one that was killed may not.
        cause = seat.process.last_words()
        self._failed_starts += 1
        if cause or self._failed_starts > self._retries:
            raise InputError(f"simulator workers cannot start: {cause or why}")

    def _retry(self, pending: _Pending, seat: _Seat, why: str) -> None:
        """Queues a job that failed again, or reports its error after `retries` more attempts."""
        pending.failures += 1
        pending.shunned = seat
        if pending.failures > self._retries:
            message = f"{pending.job.task.name}: {why}, after {pending.failures} attempts"
            self._done.append(Done(pending.ticket, None, message))
        else:
            _logger.warning("%s: %s; running it again", pending.job.task.name, why)
            # At the front: its episode has waited longest.
            self._queue.appendleft(pending)

    def _dispatch(self) -> None:
        """Gives every idle worker a job, if possible of the task that it has built."""
        for seat in self._seats:
            if seat.idle and self._queue:
                pending = self._choose(seat)
                if pending is not None:
                    self._queue.remove(pending)
                    seat.give(pending, self._timeout_s)

    def _choose(self, seat: _Seat) -> _Pending | None:
        """The job for an idle seat; None if it should take none of them."""
        # A job that failed here goes to another worker, in case this one is the cause; with no
        # other worker ready, it is run here again.
        others = any(other is not seat and other.ready for other in self._seats)
        fit = [p for p in self._queue if not (others and p.shunned is seat)]
        same = (pending for pending in fit if pending.job.task == seat.task)
        return next(same, fit[0] if fit else None)
