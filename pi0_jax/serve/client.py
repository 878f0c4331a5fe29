"""The policy of a server, for rollouts: it sends observations with the seeds of their noise.

With as many rows on both sides, chunks are those of the same policy in this process, bit for bit.

Axis letters: b batch, H action horizon, e robot's action dimension.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot, robot_from_dict
from pi0_jax.serve import wire
from pi0_jax.serve.describe import OWN
from pi0_jax.serve.request import FLOW_STEPS, GUIDANCE, SEED

_NEEDED = (
    *("policy", "robot", "action_horizon", "execute_steps", "rows", "reference"),
    *("guidance_limits", "num_flow_steps_limits", "seeds"),
)


@dataclass(frozen=True)
class ServedPolicy:
    """A `policy.remote.RemotePolicy`; `open_policy_at` makes it.

    Attributes:
        uri: of the server.
        robot: of the policy's observations and actions.
        facts: what the server says of its policy (`describe.metadata`).
        guidance: guidance scale of the next chunks.
        num_flow_steps: flow steps of the next chunks.
    """

    uri: str
    robot: Robot
    facts: Mapping[str, Any]
    guidance: float
    num_flow_steps: int
    _connections: Sequence[ClientConnection] = field(repr=False)

    @property
    def action_horizon(self) -> int:
        """H, the actions of a chunk."""
        return self.facts["action_horizon"]

    def guided(self, guidance: float, num_flow_steps: int, reference: str) -> "ServedPolicy":
        """The same policy, guided in another way.

        Args:
            guidance: guidance scale.
            num_flow_steps: flow steps per chunk.
            reference: kind of what guidance leads away from; "" where none is run.

        Raises:
            InputError: the server does not allow it, or has another reference.
        """
        kind = self.facts["reference"]
        if reference not in ("", kind):
            raise InputError(
                f"{self.uri}: its guidance leads away from {kind!r}, and eval.reference is "
                f"{reference!r}; start it with --reference {reference}"
            )
        for name, value in ((GUIDANCE, guidance), (FLOW_STEPS, num_flow_steps)):
            low, high = self.facts[f"{name}_limits"]
            if not low <= value <= high:
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{self.uri}: it allows {name} from {low:g} to {high:g}, and {value:g} is "
                    f"wanted; start it with {flag}-range"
                )
        return replace(self, guidance=guidance, num_flow_steps=num_flow_steps)

    def act_seeded(
        self, observations: Sequence[RawObs], seeds: Sequence[tuple[int, ...]]
    ) -> np.ndarray:
        """As `Policy.act_seeded`, float32[b, H, e].

        Raises:
            ConnectionError: the server has gone, or refused a request.
            InputError: an observation hides a camera, which a request cannot say.
        """
        chunks, count = [], len(self._connections)
        # A connection has one request at a time; the server puts those of all in one call.
        for first in range(0, len(observations), count):
            part = slice(first, first + count)
            asked = zip(self._connections, observations[part], seeds[part], strict=False)
            with _told_in_one_line(self.uri):
                waiting = [self._ask(*one) for one in asked]
                chunks += [self._chunk(ws) for ws in waiting]
        return np.stack(chunks)

    def _ask(self, ws: ClientConnection, obs: RawObs, seed: tuple[int, ...]) -> ClientConnection:
        if obs.camera_mask is not None and not np.all(obs.camera_mask):
            raise InputError(
                f"{self.uri}: an observation has a camera_mask that hides a camera, which a "
                "request cannot say; act with the policy itself"
            )
        images = dict(zip(self.robot.cameras, obs.images, strict=True))
        options = {GUIDANCE: self.guidance, FLOW_STEPS: self.num_flow_steps, SEED: list(seed)}
        sent = {"images": images, "state": obs.state, "prompt": obs.prompt}
        ws.send(wire.pack(sent | options))
        return ws

    def _chunk(self, ws: ClientConnection) -> np.ndarray:
        frame = ws.recv()
        if isinstance(frame, str):
            raise ConnectionError(f"{self.uri}: {frame}")
        return wire.unpack(frame)["actions"]


@contextlib.contextmanager
def open_policy_at(uri: str, connections: int, api_key: str = "") -> Iterator[ServedPolicy]:
    """Connects to a server; the connections end with the block.

    Args:
        uri: such as "ws://127.0.0.1:8000", or "wss://..." for TLS.
        connections: observations that are sent before the first answer comes.
        api_key: of the server; "" for none.

    Raises:
        InputError: it is no address, no server of ours is there, or it lets nobody in; or the
            connections lead to servers that differ.
        OSError: nothing answers there.
    """
    headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
    with contextlib.ExitStack() as stack:
        opened: list[ClientConnection] = []
        for _ in range(connections):
            try:
                one = connect(uri, compression=None, max_size=None, additional_headers=headers)
                opened.append(stack.enter_context(one))
            except InvalidStatus as error:
                said = (error.response.body or b"").decode(errors="replace").strip()
                raise InputError(f"{uri}: {error.response.status_code} {said}") from error
            except (InvalidURI, InvalidHandshake) as error:
                raise InputError(
                    f"{uri}: expected a policy server such as ws://HOST:PORT"
                ) from error
        with _told_in_one_line(uri):
            told = [ws.recv() for ws in opened]
        yield _policy(uri, _agreed(uri, told), opened)


@contextlib.contextmanager
def _told_in_one_line(uri: str) -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as error:
        raise ConnectionError(f"{uri}: the connection has ended ({error})") from error


def _agreed(uri: str, told: Sequence[str | bytes]) -> dict[str, Any]:
    """What all connections were told: behind one address there may be several servers.

    Raises:
        InputError: a server is none of ours, or they differ.
    """
    first, *others = [_facts(uri, one) for one in told]
    for facts in others:
        names = sorted(first.keys() | facts.keys())
        if differ := [name for name in names if first.get(name) != facts.get(name)]:
            raise InputError(
                f"{uri}: its connections lead to servers that differ in {', '.join(differ)}; give "
                "the address of one server, or start all of them alike"
            )
    return first


def _facts(uri: str, told: str | bytes) -> dict[str, Any]:
    message = wire.unpack(told) if isinstance(told, bytes) else None
    facts = message.get(OWN) if isinstance(message, dict) else None
    if not isinstance(facts, dict) or not all(name in facts for name in _NEEDED):
        raise InputError(
            f"{uri}: expected a server of this version of pi0_jax: others take no seeds, and their "
            "chunks could not be repeated"
        )
    return facts


def _policy(
    uri: str, facts: dict[str, Any], connections: Sequence[ClientConnection]
) -> ServedPolicy:
    if not facts["seeds"]:
        raise InputError(
            f"{uri}: its requests may not choose their seed, so chunks could not be repeated; "
            "start it without --no-request-seeds"
        )
    robot = robot_from_dict(facts["robot"])
    scale, steps = facts[GUIDANCE], facts[FLOW_STEPS]
    return ServedPolicy(uri, robot, facts, scale, steps, connections)
