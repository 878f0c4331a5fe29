"""A worker of the pool that is an actor of Ray, seen from the process that has the pool."""

import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from pi0_jax.env.base import Job
from pi0_jax.env.workers.process import simulator_variables
from pi0_jax.env.workers.source import Reply, WorkerDiedError
from pi0_jax.errors import first_line

_MESSAGE_TIMEOUT_S = 30.0  # for an answer to arrive, once Ray says that it is there


def actor_kind(ray: Any, renderer: str) -> Any:
    """The class of the actors, of a core each; `options` of it may add where."""

    # Sent by value, because it is no module's: so an actor starts even on a node without pi0_jax,
    # and the node can be told from others when `meet` fails.
    class Simulator:
        def place(self) -> tuple[str, str]:
            """Identity of the node, and a name for messages."""
            node, process = ray.get_runtime_context().get_node_id(), os.getpid()
            return node, f"worker {process} on {ray.util.get_node_ip_address()} ({node[:8]})"

        def meet(self, number: int, assets: Sequence[str], expected: Mapping[str, str]) -> bytes:
            from pi0_jax.env.cluster.far_side import FarSide

            self._far_side = FarSide(renderer, number)
            return self._far_side.meet(assets, expected)

        def answer(self, message: bytes) -> bytes:
            return self._far_side.answer(message)

    # An actor that ends is replaced by the pool, which knows its job.
    return ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": _variables(renderer)})(
        Simulator
    )


class Actor:
    """The `Worker` that is an actor. It waits for a core first, then it is asked what it is like.

    Args:
        ray: the package.
        handle: of the actor.
        died: called when it turns out that the actor has died.

    Attributes:
        host: identity of its node; "" while it waits for a core.
        name: what messages call it.
        number: of this worker among those of its node; -1 while it waits.
        answer: the reference that becomes ready with its answer or its end, if one is awaited.
    """

    def __init__(self, ray: Any, handle: Any, died: Callable[[], None]) -> None:
        self._ray, self._handle, self._died = ray, handle, died
        self.host, self.name, self.number = "", "worker without a core", -1
        self.answer: Any = handle.place.remote()

    def arrive(self) -> bool:
        """Learns on which node it is; False if it died before it could say so."""
        try:
            self.host, self.name = self._ray.get(self.answer, timeout=_MESSAGE_TIMEOUT_S)
        except self._ray.exceptions.RayError:
            return False  # `receive` says why
        return True

    def meet(self, number: int, assets: Sequence[str], expected: Mapping[str, str]) -> None:
        """Asks whether its machine is like this one; the answer is its first reply."""
        self.number = number
        self.answer = self._handle.meet.remote(number, assets, expected)

    def send(self, job: Job) -> None:
        """Sends a job, as bytes that cloudpickle makes."""
        self.answer = self._handle.answer.remote(cloudpickle.dumps(job))

    def answered(self) -> bool:
        """Whether `receive` would return or raise at once."""
        return self.answer is not None and bool(self._ray.wait([self.answer], timeout=0)[0])

    def receive(self) -> Reply:
        """The next reply.

        Raises:
            WorkerDiedError: the actor has ended, or its node.
        """
        answer, self.answer = self.answer, None
        try:
            return pickle.loads(self._ray.get(answer, timeout=_MESSAGE_TIMEOUT_S))
        except self._ray.exceptions.RayTaskError as error:  # such as: no module named pi0_jax
            return Reply(error=f"{type(error.cause).__name__}: {first_line(error.cause)}")
        except self._ray.exceptions.RayError as error:
            self._died()
            raise WorkerDiedError(f"{self.name} ended ({first_line(error)})") from error

    def last_words(self) -> str:
        """Nobody here can read them: they are in the logs of its node."""
        return ""

    def kill(self) -> None:
        """Ends it, or its wait for a core."""
        self._ray.kill(self._handle)


def _variables(renderer: str) -> dict[str, str]:
    """Environment variables of an actor."""
    # Modules of the user's own, which a job may need. The node has its own Python and packages.
    paths = [path or str(Path.cwd()) for path in sys.path]
    own = [path for path in paths if not path.startswith((sys.prefix, sys.base_prefix))]
    return {
        **simulator_variables(renderer),
        # What the node is set to comes first.
        "PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", *own]),
    }
