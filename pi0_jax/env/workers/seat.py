"""A seat of the pool: one place for a worker, what it has built, and the job that it is running."""

import time
from dataclasses import dataclass

from pi0_jax.env.base import Job, Task
from pi0_jax.env.workers.source import Worker

START_TIMEOUT_S = 120.0  # for a worker to start; imports take seconds on a busy machine
BUILD_TIMEOUT_S = 180.0  # added for a worker's first job of a task, which builds the simulator


@dataclass(eq=False)
class Pending:
    """A job that has not ended. `failures` attempts failed, the last in `shunned` on `host`."""

    ticket: int
    job: Job
    failures: int = 0
    shunned: "Seat | None" = None
    host: str = ""


# The states of a seat, and what moves it from one to the next:
#
#                    first reply               give
#      STARTING ---------------------> IDLE ----------> BUSY
#        ^  |                          |  ^             |  |
#        |  | died or                  |  |    reply    |  | died or
#        |  | too late            died |  +-------------+  | too late
#        |  v                          v                   v
#        +-- _lost (kills the worker and takes another) <---+
#
#   STARTING  not ready, no job      deadline: START_TIMEOUT_S, from when it has a machine
#   IDLE      ready, no job          no deadline
#   BUSY      ready, with a job      deadline: the pool's timeout_s, + BUILD_TIMEOUT_S to build
#
# A seat whose machine is gone leaves the pool from any state, and one that waits for a machine when
# there are more seats than places.
class Seat:
    """A worker in its place.

    Attributes:
        number: from 0 on; other seats of the pool have other numbers.
        worker: who sits here.
        ready: whether its first reply has come.
        task: whose simulator it has built, or is building.
        current: the job that it is running.
        limit_s: seconds that it has for what it is doing.
        deadline: when they are over, on the monotonic clock.
    """

    def __init__(self, number: int, worker: Worker) -> None:
        self.number = number
        self.take(worker)

    def take(self, worker: Worker) -> None:
        """Seats a new worker."""
        self.worker, self.ready = worker, False
        self.task: Task | None = None
        self.current: Pending | None = None
        self.limit(START_TIMEOUT_S)

    def limit(self, seconds: float) -> None:
        """Sets the deadline of what it is doing."""
        self.limit_s, self.deadline = seconds, time.monotonic() + seconds

    @property
    def idle(self) -> bool:
        """Whether it can take a job."""
        return self.ready and self.current is None

    def give(self, pending: Pending, timeout_s: float) -> None:
        """Sends a job to the worker."""
        # Another task than the last one: its simulator has to be built first.
        builds = self.task != pending.job.task
        self.limit(timeout_s + BUILD_TIMEOUT_S * builds)
        self.task, self.current = pending.job.task, pending
        self.worker.send(pending.job)
