"""N worker processes of this machine that run jobs."""

from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

from pi0_jax.env.workers.process import HOST, WorkerProcess
from pi0_jax.env.workers.scheduler import WorkerPool
from pi0_jax.errors import InputError


class SimulatorPool(WorkerPool):
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
        super().__init__(_Processes(workers, renderer), timeout_s, retries)


class _Processes:
    """The `Source` of this machine."""

    limit = 0

    def __init__(self, workers: int, renderer: str) -> None:
        self.renderer = renderer
        self._hosts = {HOST: workers}

    def hosts(self) -> Mapping[str, int]:
        return self._hosts

    def start(self, number: int, refused: Collection[str]) -> WorkerProcess:
        return WorkerProcess(self.renderer, number)

    def wait(self, workers: Sequence[WorkerProcess], timeout_s: float) -> list[WorkerProcess]:
        of: dict[Any, WorkerProcess] = {worker.connection: worker for worker in workers}
        return [of[one] for one in wait(list(of), timeout_s)]

    def close(self) -> None:
        """Nothing is left: a process ends when it is killed."""
