"""Where the simulators of a run are: in processes of this machine, or on a cluster of Ray."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pi0_jax.env.base import Engine
from pi0_jax.env.cluster.connection import connected
from pi0_jax.env.cluster.ray_pool import RayPool
from pi0_jax.env.workers.cores import cores
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError, check_choices
from pi0_jax.hosts import talk
from pi0_jax.ranges import check_ranges

PROCESSES, RAY = "processes", "ray"


@dataclass(frozen=True)
class PoolConfig:
    """Where the simulators run. Results do not depend on it.

    Attributes:
        engine: "processes" of this machine, or "ray": on all nodes of a cluster.
        address: HOST:PORT of the cluster's head; "" for RAY_ADDRESS, and without that for the
            cluster that this machine is a node of.
        workers: simulators, each a process; 0 for one per core. LIBERO's need about 1 GB each.
        timeout_s: seconds after which a simulator that does not answer is replaced.
    """

    engine: str = PROCESSES
    address: str = ""
    workers: Annotated[int, "[0, 4096]"] = 0
    timeout_s: Annotated[float, "[1, 1e6]"] = 60.0

    def __post_init__(self) -> None:
        """Checks values.

        Raises:
            InputError: named field.
        """
        check_ranges("pool", self)
        check_choices("pool", self, {"engine": (PROCESSES, RAY)})
        if self.address and self.engine != RAY:
            raise InputError(
                f"pool.address is for pool.engine='ray', got {self.address!r} with "
                f"{self.engine!r}; set the engine, or leave the address empty"
            )


def reached(config: PoolConfig) -> contextlib.AbstractContextManager[None]:
    """A block in which the machines of the simulators can be reached; none is started yet.

    Raises:
        InputError: there is no such cluster, or several hosts would each take all of it.
    """
    if config.engine == RAY and talk.count() > 1 and not config.workers:
        raise InputError(
            f"pool.engine is 'ray' for {talk.count()} hosts: set pool.workers to the simulators of "
            "each host, as the first would take all cores of the cluster"
        )
    return connected(config.address) if config.engine == RAY else contextlib.nullcontext()


@contextlib.contextmanager
def started(config: PoolConfig, renderer: str, assets: Sequence[str]) -> Iterator[Engine]:
    """A block with simulators, which end with it; inside of a `reached` block.

    Args:
        config: where they run.
        renderer: MuJoCo's GL backend.
        assets: folders that the tasks name.
    """
    if config.engine == RAY:
        pool = RayPool(config.workers, config.timeout_s, renderer, assets)
    else:
        pool = SimulatorPool(config.workers or cores(), config.timeout_s, renderer=renderer)
    with pool:
        yield pool
