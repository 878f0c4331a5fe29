"""An engine without processes: every job runs where it is submitted.

For notebooks, tests and tasks that take almost no time. Here a simulator that hangs blocks
everything, and one with a GL context keeps it; use `pool.SimulatorPool` for those.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pi0_jax.env.base import Done, Job, Simulator, Task, results_of
from pi0_jax.errors import first_line


class InProcess:
    """The `Engine` of this process: one simulator at a time; a context manager."""

    workers, renderer, backlog = 1, "in process", 0

    def __init__(self) -> None:
        self._tickets = 0
        self._over: list[Done] = []
        self._task: Task | None = None
        self._simulator: Simulator | None = None

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, job: Job) -> int:
        """Runs a job at once and returns its ticket."""
        self._tickets += 1
        try:
            done = Done(self._tickets, job.function(self._built(job.task), *job.args), None)
        # Whatever a job raises is an error of the simulator, as in a worker process.
        except Exception as error:  # noqa: BLE001
            self._task = self._simulator = None
            done = Done(self._tickets, None, first_line(error))
        self._over.append(done)
        return self._tickets

    def gather(self, timeout_s: float | None = None) -> list[Done]:
        """All jobs that have ended since the last call; never waits."""
        del timeout_s
        over, self._over = self._over, []
        return over

    def run_all(
        self, jobs: Iterable[Job], report: Callable[[list[Done]], None] = lambda done: None
    ) -> list[Done]:
        """Runs all jobs in their order; `report` is called after each."""
        over: list[Done] = []
        for job in jobs:
            ticket = self.submit(job)
            # Others are of a caller that has gone.
            over += [done for done in self.gather() if done.ticket == ticket]
            report(over)
        return over

    def map(
        self, jobs: Iterable[Job], report: Callable[[list[Any]], None] = lambda results: None
    ) -> list[Any]:
        """Results of all jobs, as `run_all`.

        Raises:
            RuntimeError: a job failed; the message is its error.
        """
        return results_of(self.run_all(jobs, lambda over: report(results_of(over))))

    def close(self) -> None:
        """Closes the simulator."""
        if self._simulator is not None:
            self._simulator.close()
        self._task = self._simulator = None

    def _built(self, task: Task) -> Simulator:
        """The simulator of a task, built unless it is there already."""
        if self._simulator is None or self._task != task:
            self.close()
            self._simulator, self._task = task.build(), task
        return self._simulator
