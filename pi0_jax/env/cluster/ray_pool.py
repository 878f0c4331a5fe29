"""Simulators on a cluster of Ray: a worker per core of any node, as nodes join and leave."""

import itertools
import time
from collections.abc import Collection, Mapping, Sequence

from pi0_jax.env.cluster.actor import Actor, actor_kind
from pi0_jax.env.cluster.connection import import_ray
from pi0_jax.env.workers.machine import describe
from pi0_jax.env.workers.scheduler import WorkerPool

_LOOK_AGAIN_S = 1.0  # how often nodes that join and leave are looked for


class RayPool(WorkerPool):
    """The `Engine` of a cluster that this process is connected to (`connection.connected`).

    Every worker is asked first whether its node renders and simulates as this machine does. One
    that does not is refused with one line, and the run goes on with the other nodes.

    Args:
        workers: the most simulators; 0 for one per core of the cluster.
        timeout_s: seconds that a job may take after its simulator is built; then its worker is
            killed.
        renderer: MuJoCo's GL backend in the workers (`gl.choose_renderer`).
        assets: folders that the tasks name, at the same place on every node.
        retries: how often a job that failed is run again before its error is reported.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float,
        renderer: str,
        assets: Sequence[str] = (),
        retries: int = 2,
    ) -> None:
        super().__init__(_Cluster(workers, renderer, assets), timeout_s, retries)


class _Cluster:
    """The `Source` of a cluster."""

    def __init__(self, workers: int, renderer: str, assets: Sequence[str]) -> None:
        self.limit, self.renderer = workers, renderer
        self._ray = import_ray()
        self._kind = actor_kind(self._ray, renderer)
        self._assets, self._expected = tuple(assets), describe(renderer, assets)
        self._hosts: dict[str, int] = {}
        self._look_at = 0.0

    def hosts(self) -> Mapping[str, int]:
        if time.monotonic() >= self._look_at:
            alive = [node for node in self._ray.nodes() if node["Alive"]]
            cores = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}
            self._hosts = {node: count for node, count in cores.items() if count}
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
        return self._hosts

    def start(self, number: int, refused: Collection[str]) -> Actor:
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(refused))})"} if refused else None
        handle = self._kind.options(scheduling_strategy="SPREAD", label_selector=elsewhere).remote()
        return Actor(self._ray, handle, self._look_now)

    def wait(self, workers: Sequence[Actor], timeout_s: float) -> list[Actor]:
        of = {worker.answer: worker for worker in workers if worker.answer is not None}
        until = min(timeout_s, _LOOK_AGAIN_S)
        if not of:
            time.sleep(until)
            return []
        self._ray.wait(list(of), timeout=until)
        over, _ = self._ray.wait(list(of), num_returns=len(of), timeout=0)
        return [of[one] for one in over if not self._has_arrived(of[one], workers)]

    def close(self) -> None:
        """Nothing is left: `connected` ends the connection."""

    def _has_arrived(self, worker: Actor, workers: Sequence[Actor]) -> bool:
        """Whether what a worker says is that it has found a core; then it is asked on."""
        if worker.host or not worker.arrive():
            return False
        used = {other.number for other in workers if other.host == worker.host}
        number = next(number for number in itertools.count() if number not in used)
        worker.meet(number, self._assets, self._expected)
        return True

    def _look_now(self) -> None:
        """A worker that died may have died with its node."""
        self._look_at = 0.0
