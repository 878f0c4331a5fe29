"""A server of a tiny policy in a thread of this process, and clients of the protocol."""

import asyncio
import contextlib
import dataclasses
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.robots import load_robot
from pi0_jax.serve import wire
from pi0_jax.serve.describe import metadata
from pi0_jax.serve.layouts import layouts_of
from pi0_jax.serve.request import Rules, Sampling
from pi0_jax.serve.server import Log, PolicyServer, Service
from pi0_jax.serve.settings import Listening
from pi0_jax.testing import tiny_policy

ROWS, STEPS = 4, 2
PANDA = load_robot("libero_panda")
HERE = Listening(port=0)


def panda_folder() -> PolicyFolder:
    """A tiny policy of LIBERO's robot."""
    return tiny_policy(PANDA)


def panda_policy(rows: int = ROWS) -> Policy:
    """`panda_folder`, ready to act."""
    return Policy.from_folder(panda_folder(), num_flow_steps=STEPS, rows=rows)


def service(policy: Any, folder: PolicyFolder | None = None, **changes: Any) -> Service:
    """What is served of a tiny policy; `changes` of the service, or of its rules."""
    side = policy.transforms.image_size
    free = Rules(
        policy.robot, layouts_of(policy.robot), Sampling(1.0, STEPS), (0.0, 3.0), (1, 20), side
    )
    of_rules = {entry.name for entry in dataclasses.fields(Rules)} & changes.keys()
    rules = dataclasses.replace(free, **{name: changes.pop(name) for name in of_rules})
    told = metadata(policy, (folder or panda_folder()).spec, rules, "tiny")
    return Service(policy, rules, told, **{"listening": HERE, **changes})


@dataclasses.dataclass
class Running:
    """A server that runs in a thread.

    Attributes:
        server: the server.
        port: where it listens.
        lines: of its log, so far.
    """

    server: PolicyServer
    port: int
    lines: list[Mapping[str, Any]]
    _loop: asyncio.AbstractEventLoop
    _stop: asyncio.Event

    @property
    def uri(self) -> str:
        """For clients."""
        return f"ws://127.0.0.1:{self.port}"

    def busy(self) -> bool:
        """Whether a request is in progress."""
        return any(client.busy for client in self.server._clients.values())

    def end(self) -> None:
        """What SIGTERM does."""
        self._loop.call_soon_threadsafe(self._stop.set)


@contextlib.contextmanager
def running(service: Service, log: Log | None = None) -> Iterator[Running]:
    """Runs a service until the block ends, and waits until it has drained."""
    lines: list[Mapping[str, Any]] = []
    server, up, found = PolicyServer(service, log or lines.append), threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def listens(port: int) -> None:
            found.append(Running(server, port, lines, loop, stop))
            up.set()

        await server.run(stop, listens)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert up.wait(20), "the server does not listen"
        yield found[0]
    finally:
        for one in found:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                one.end()
        thread.join(20)
    assert not thread.is_alive(), "the server has not ended"


class Client:
    """As openpi's client: the metadata first, then an answer per observation."""

    def __init__(self, uri: str, **options: Any):
        self._open = contextlib.ExitStack()
        opened = connect(uri, compression=None, max_size=None, **options)
        self.ws: ClientConnection = self._open.enter_context(opened)
        self.metadata = wire.unpack(self.received())

    def received(self) -> bytes:
        """The next binary frame; a text frame is an error of the server."""
        frame = self.ws.recv(timeout=20)
        if isinstance(frame, str):
            raise RuntimeError(frame)
        return frame

    def infer(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """The result for an observation."""
        self.ws.send(wire.pack(dict(obs)))
        return wire.unpack(self.received())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Says goodbye."""
        self._open.close()


def observation(seed: int = 0, side: int = 16) -> dict[str, Any]:
    """A LIBERO observation as openpi's example sends it."""
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(256, size=(side, side, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(256, size=(side, side, 3), dtype=np.uint8),
        "observation/state": rng.uniform(-1, 1, 8),
        "prompt": "lift it",
    }


@dataclasses.dataclass(frozen=True)
class Slow:
    """A policy whose calls end when the test says so."""

    policy: Any
    gate: Any
    guidance: float = 1.0
    num_flow_steps: int = 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def act_seeded(self, observations: Any, seeds: Any, ongoing: Any) -> np.ndarray:
        """As the policy's, later."""
        assert self.gate.wait(90)
        return self.policy.act_seeded(observations, seeds, ongoing)


def get(uri: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a page."""
    asked = urllib.request.Request(uri.replace("ws://", "http://"), headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(true: Callable[[], Any]) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()
