"""Gives jobs to workers of any source; goes on if one of them dies, hangs, raises or leaves.

Workers keep no episode, so a worker that fails loses only the job that it was running, and another
worker runs it again with the same result. A job that fails in every attempt is reported as an error
of the simulator; it is never a failure of the policy.
"""

import collections
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from pi0_jax.env.base import Done, Job, results_of
from pi0_jax.env.workers.seat import START_TIMEOUT_S, Pending, Seat
from pi0_jax.env.workers.source import Reply, Source, WorkerDiedError
from pi0_jax.errors import InputError

NOBODY_TIMEOUT_S = 600.0  # for a cluster to have a worker again, while jobs wait

_logger = logging.getLogger(__name__)


class WorkerPool:
    """The `Engine` over a source of workers, whose number may change; a context manager.

    `_poll` waits for a reply, a death or a deadline, and follows the machines that join and leave.
    `_receive` reads a reply. A job whose reply is an error, or whose seat is `_lost`, goes to
    `_retry`: back to the front of the queue, for another seat if there is one, and after `retries`
    more failures to the caller as an error. A job whose machine is gone does not count as failed.

    Args:
        source: gives the workers; the pool closes it.
        timeout_s: seconds that a job may take after its simulator is built; then its worker is
            killed.
        retries: how often a job that failed is run again before its error is reported.
    """

    def __init__(self, source: Source[Any], timeout_s: float, retries: int) -> None:
        if timeout_s <= 0:
            raise InputError(f"expected a time limit above 0 s for a job, got {timeout_s}")
        self._source, self._timeout_s, self._retries = source, timeout_s, retries
        self._tickets = 0
        self._queue: collections.deque[Pending] = collections.deque()
        self._done: list[Done] = []
        self._refused: set[str] = set()
        self._failed_starts: collections.Counter[str] = collections.Counter()
        self._seats: list[Seat] = []
        self._open, self._last_ready = True, time.monotonic()
        self._follow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Number of workers, those that are starting included; at least 1 until it is closed."""
        return len(self._seats)

    @property
    def renderer(self) -> str:
        """MuJoCo's GL backend in the workers."""
        return self._source.renderer

    @property
    def backlog(self) -> int:
        """Number of jobs that wait for a worker."""
        return len(self._queue)

    def submit(self, job: Job) -> int:
        """Queues a job and returns its ticket; any idle worker takes it."""
        if not self._outstanding:
            self._last_ready = time.monotonic()
        self._tickets += 1
        self._queue.append(Pending(self._tickets, job))
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
        wanted, over = set(tickets), dict[int, Done]()
        try:
            while len(over) < len(tickets):
                # Others are of a caller that has gone: an error or an interruption ended it.
                own = [done for done in self.gather() if done.ticket in wanted]
                over |= {done.ticket: done for done in own}
                report(list(over.values()))
        except BaseException:
            self._queue = collections.deque(one for one in self._queue if one.ticket not in wanted)
            raise
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
        if self._open:
            self._open = False
            for seat in self._seats:
                seat.worker.kill()
            self._seats = []
            self._source.close()

    @property
    def _outstanding(self) -> bool:
        return bool(self._queue) or any(seat.current is not None for seat in self._seats)

    def _poll(self, end: float | None) -> None:
        """Waits for a reply, a death, a deadline or `end`, handles it, and gives out jobs."""
        if not self._open:
            return
        self._follow()
        now = time.monotonic()
        moments = [seat.deadline for seat in self._seats if not seat.idle]
        # Without any job there is nothing to wait for: only what has already happened is handled.
        # A job of a machine that has just gone may wait while all others are idle.
        moments += [] if end is None else [end]
        until = min(moments, default=now) if self._outstanding else now
        seats = {id(seat.worker): seat for seat in self._seats}
        for worker in self._source.wait([s.worker for s in self._seats], max(0.0, until - now)):
            seat = seats[id(worker)]
            # What was handled before may have emptied this seat.
            if seat in self._seats and seat.worker is worker:
                self._receive(seat)
        now = time.monotonic()
        for seat in list(self._seats):
            # A reply that has come is in time, even if it is read after the deadline.
            if not seat.idle and now > seat.deadline and not seat.worker.answered():
                self._lost(seat, f"{seat.worker.name} hangs: no answer in {seat.limit_s:g} s")
        self._dispatch()

    def _follow(self) -> None:
        """Has as many seats as there are places: machines join and leave."""
        hosts = self._source.hosts()
        for seat in [s for s in self._seats if s.worker.host and s.worker.host not in hosts]:
            self._leave(seat, "its machine is gone")
        places = max(1, self._places())
        waiting = [seat for seat in self._seats if not seat.worker.host]
        for seat in waiting[: max(0, len(self._seats) - places)]:
            self._leave(seat, "there is no place for it")
        used = {seat.number for seat in self._seats}
        free = (number for number in itertools.count() if number not in used)
        for number in itertools.islice(free, max(0, places - len(self._seats))):
            self._seats.append(Seat(number, self._source.start(number, self._refused)))
        self._check_anybody()

    def _places(self) -> int:
        """How many workers the machines that are not refused have places for."""
        hosts = self._source.hosts().items()
        places = sum(count for host, count in hosts if host not in self._refused)
        return min(places, self._source.limit or places)

    def _check_anybody(self) -> None:
        """Ends the run if no worker comes for long, as it would wait for ever."""
        now = time.monotonic()
        for seat in self._seats:
            if not seat.worker.host:
                seat.limit(START_TIMEOUT_S)  # its time to start has not begun
        if any(seat.ready for seat in self._seats) or not self._outstanding:
            self._last_ready = now
        elif now - self._last_ready > NOBODY_TIMEOUT_S:
            raise InputError(
                f"no simulator worker for {NOBODY_TIMEOUT_S:g} s: {len(self._source.hosts())} "
                "machines are there, and none of them has a free core; add some and resume the run"
            )

    def _receive(self, seat: Seat) -> None:
        """Reads what a worker has to say: a reply, or its end."""
        try:
            reply = seat.worker.receive()
        except WorkerDiedError as death:
            self._lost(seat, str(death))
            return
        if not seat.ready:
            self._welcome(seat, reply)
            return
        pending = seat.current
        assert pending is not None, "a worker answers jobs alone"
        # Every attempt on every worker would fail in the same way.
        if reply.fatal:
            raise InputError(f"cannot build {pending.job.task.name!r}: {reply.error}")
        seat.current = None
        if reply.error is None:
            self._done.append(Done(pending.ticket, reply.result, None))
        else:
            seat.task = None  # the worker has dropped the simulator that raised
            self._retry(pending, seat, seat.worker.host, reply.error)

    def _welcome(self, seat: Seat, reply: Reply) -> None:
        """The first reply: the worker is ready, or no worker of its host can be used."""
        if reply.error is None:
            self._failed_starts.pop(seat.worker.host, None)
            seat.ready = True
        elif seat.worker.host in self._refused:  # it was on its way when its host was refused
            self._leave(seat, reply.error)
        else:
            self._refuse(seat, reply.error)

    def _lost(self, seat: Seat, why: str) -> None:
        """Replaces a worker that is dead or hangs; its job is run again by another one."""
        host, pending = seat.worker.host, seat.current
        if host and host not in self._source.hosts():
            self._leave(seat, "its machine is gone")
            return
        if not seat.ready:
            self._count_failed_start(seat, why)
            if seat not in self._seats:
                return
        _logger.warning("%s; it is replaced", why)
        seat.worker.kill()
        seat.take(self._source.start(seat.number, self._refused))
        if pending is not None:
            self._retry(pending, seat, host, why)

    def _count_failed_start(self, seat: Seat, why: str) -> None:
        """Refuses a host where workers cannot start, instead of starting them for ever."""
        # A worker that printed why it ended would do so again; one that was killed may not.
        cause = seat.worker.last_words()
        self._failed_starts[seat.worker.host] += 1
        if cause or self._failed_starts[seat.worker.host] > self._retries:
            self._refuse(seat, cause or why)

    def _refuse(self, seat: Seat, why: str) -> None:
        """Uses no worker of a host any more; ends the run if there is no other host.

        Raises:
            InputError: there is none, or the worker had none to be refused.
        """
        host = seat.worker.host
        self._refused.add(host)
        if not host or not self._places():
            raise InputError(f"simulator workers cannot start: {why}")
        _logger.warning("%s and all of its machine are refused: %s", seat.worker.name, why)
        for one in [one for one in self._seats if one.worker.host == host]:
            self._leave(one, "its machine is refused")

    def _leave(self, seat: Seat, why: str) -> None:
        """Gives a seat up. Its job has not failed: another worker runs it."""
        _logger.info("%s leaves: %s", seat.worker.name, why)
        seat.worker.kill()
        self._seats.remove(seat)
        if seat.current is not None:
            self._queue.appendleft(seat.current)

    def _retry(self, pending: Pending, seat: Seat, host: str, why: str) -> None:
        """Queues a job that failed again, or reports its error after `retries` more attempts."""
        pending.failures += 1
        pending.shunned, pending.host = seat, host
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

    def _choose(self, seat: Seat) -> Pending | None:
        """The job for an idle seat; None if it should take none of them."""
        fit = [pending for pending in self._queue if not self._shuns(pending, seat)]
        same = (pending for pending in fit if pending.job.task == seat.task)
        return next(same, fit[0] if fit else None)

    def _shuns(self, pending: Pending, seat: Seat) -> bool:
        """Whether a job that failed should be run elsewhere, in case the place is the cause."""
        if pending.shunned is None or pending.host != seat.worker.host:
            return False
        others = [other for other in self._seats if other is not seat and other.ready]
        if any(other.worker.host != pending.host for other in others):
            return True  # another machine; this one may be dying as a whole
        # With no other worker ready, it is run here again.
        return pending.shunned is seat and bool(others)
