"""The websocket server: one handler per client, one worker thread for the policy.

On connect the client gets the metadata; then every binary message is an observation and gets a
result. An error is told in a text frame, and the connection is closed with code 1011: so openpi's
server does it, and its client raises what the frame says. No handler waits for another client, and
the event loop never computes: reading a message has a thread of its own, too.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.protocol import State

from pi0_jax.errors import InputError, first_line
from pi0_jax.policy.policy import Policy
from pi0_jax.serve import http, wire
from pi0_jax.serve.batcher import Answer, Batcher, BusyError
from pi0_jax.serve.live import Client, snapshot
from pi0_jax.serve.metrics import Metrics
from pi0_jax.serve.request import Request, Rules, Seed, check_fits, read_request
from pi0_jax.serve.settings import Limits, Listening

Log = Callable[[Mapping[str, Any]], None]
"""Takes one line of the log: what happened, as plain values."""

_LOG = logging.getLogger(__name__)
_ENDING = "The server shuts down."
_CLOSED = "The error is in the previous frame."


@dataclass(frozen=True)
class Service:
    """What is served, and how.

    Attributes:
        policy: compiled for all that `rules` let through.
        rules: what a request may be.
        metadata: what a client gets when it connects, as plain values.
        limits: of every client.
        listening: where, and to whom.
        wait_s: how long a request waits for others that share its call of the policy, at most.
        seed: first number of the seeds of requests without one.
    """

    policy: Policy
    rules: Rules
    metadata: Mapping[str, Any]
    limits: Limits = field(default_factory=Limits)
    listening: Listening = field(default_factory=Listening)
    wait_s: float = 0.003
    seed: int = 0


class PolicyServer:
    """A running service."""

    def __init__(self, service: Service, log: Log = lambda line: None):
        """Prepares; `run` listens.

        Args:
            service: what is served.
            log: called once per request, connection and disconnection. When it raises an OSError,
                its line is lost, and the server goes on.
        """
        self._service, self._log, self._log_works = service, log, True
        self._clients: dict[ServerConnection, Client] = {}
        self._admitted: set[ServerConnection] = set()
        self._connections, self._draining = 0, False
        self._metadata = wire.pack(dict(service.metadata))

    async def run(self, stop: asyncio.Event, listens: Callable[[int], None]) -> None:
        """Serves until `stop` is set, then answers what is in progress and returns.

        Args:
            stop: set it to end the service.
            listens: called with the port, once the server listens.

        Raises:
            OSError: the port is taken, or a TLS file cannot be read.
        """
        service, limits = self._service, self._service.limits
        self._batcher = batch = Batcher(
            service.policy, service.wait_s, limits.queue, lambda *call: self.metrics.called(*call)
        )
        self.metrics = Metrics(service.policy.rows, lambda: len(self._clients), batch.__len__)
        listening = serve(
            self._handle,
            service.listening.host,
            service.listening.port,
            process_request=self._enter,
            # A web page that a browser shows sends its origin; robots and scripts have none.
            origins=[None],
            compression=None,
            max_size=limits.message_bytes,
            # Of messages that were sent without waiting for an answer, only the next is read.
            max_queue=1,
            ping_interval=limits.ping_s,
            ping_timeout=limits.ping_s,
            close_timeout=limits.ping_s,
            server_header=None,
            logger=_quiet_logger(),
            ssl=_tls(service.listening),
        )
        with batch:
            async with listening as server:
                listens(next(iter(server.sockets)).getsockname()[1])
                await stop.wait()
                await self._drain(server)

    async def _enter(self, ws: ServerConnection, request: HttpRequest) -> Response | None:
        """Answers plain HTTP, and refuses connections; None lets a client in."""
        path = request.path.partition("?")[0]
        if not http.wants_websocket(request) and path == "/healthz":
            return http.answer(HTTPStatus.OK, b"OK\n", "text/plain")
        if not http.may_enter(request, self._service.listening.api_key):
            return self._refuse(http.locked(), "key")
        if not http.wants_websocket(request):
            # In a thread: pictures of all clients are compressed.
            return await asyncio.to_thread(http.page, path, self.metrics, self._snapshot)
        most = self._service.limits.clients
        self._admitted = {one for one in self._admitted if one.state is not State.CLOSED}
        if len(self._admitted) >= most:
            text = f"this server takes {most} clients at a time, and has them; try again later\n"
            full = http.answer(HTTPStatus.SERVICE_UNAVAILABLE, text.encode(), "text/plain")
            return self._refuse(full, "full")
        self._admitted.add(ws)
        return None

    def _refuse(self, response: Response, reason: str) -> Response:
        self.metrics.refused_connections.labels(reason).inc()
        return response

    def _snapshot(self) -> dict[str, Any]:
        rules, policy = self._service.rules, self._service.policy
        return snapshot(list(self._clients.values()), rules.robot, policy.rows)

    async def _handle(self, ws: ServerConnection) -> None:
        """Serves one client to its end."""
        host, port = (*ws.remote_address[:2],)
        client = Client(self._connections, f"{host}:{port}")
        self._connections += 1
        try:
            self._clients[ws] = client
            self._batcher.clients = len(self._clients)
            self._tell({"event": "connected", "client": client.number, "peer": client.peer})
            await ws.send(self._metadata)
            if self._draining:  # it came in while the door was closing
                await self._close([ws])
            # One after the other: the next message is read when this one has its answer.
            async for message in ws:
                if not await self._turn(ws, client, message):
                    break
        except ConnectionClosed:
            pass  # in the middle of a message, or before its answer: nobody is there to tell
        finally:
            del self._clients[ws]
            self._batcher.clients = max(1, len(self._clients))
            self._tell({"event": "disconnected", "client": client.number, **_closing(ws)})

    async def _turn(self, ws: ServerConnection, client: Client, message: str | bytes) -> bool:
        """Answers one message; returns whether the client may send another."""
        received, client.busy = time.monotonic(), True
        number, client.requests = client.requests, client.requests + 1
        line: dict[str, Any] = {"event": "request", "client": client.number, "request": number}
        line["bytes"], outcome = len(message), "gone"
        try:
            request = await asyncio.to_thread(self._read, message)
            client.obs = request.obs
            # Counted per request, so that a client's actions depend on no other client.
            seed = request.seed or (self._service.seed, client.number, number)
            client.answer = await self._answer(ws, request, seed)
            reply = _reply(client.answer, client, received)
            await ws.send(reply)
            line |= _timing(client.answer)
            outcome = "ok"
        except ConnectionClosed:
            raise
        # Whatever is wrong with one request, the other clients go on.
        except Exception as error:  # noqa: BLE001
            outcome, line["error"] = _fault(error)
            await ws.send(line["error"])
        finally:
            client.busy = False
            self._count({**line, "outcome": outcome}, client, received)
        if outcome != "ok":
            await ws.close(CloseCode.INTERNAL_ERROR, _CLOSED)
        elif self._draining:
            await self._close([ws])
        return outcome == "ok" and not self._draining

    async def _answer(self, ws: ServerConnection, request: Request, seed: Seed) -> Answer:
        """The policy's answer; a client that leaves before it gives up its place in the queue.

        Raises:
            ConnectionClosed: the client has left.
        """
        answer = asyncio.wrap_future(self._batcher.submit(request, seed))
        left = asyncio.ensure_future(ws.wait_closed())
        try:
            await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ws.protocol.close_exc
            return answer.result()
        finally:
            left.cancel()
            answer.cancel()

    def _read(self, message: str | bytes) -> Request:
        if isinstance(message, str):
            raise InputError("expected a binary frame with msgpack, got a text frame")
        request = read_request(wire.unpack(message), self._service.rules)
        check_fits(request, self._service.policy.transforms)
        return request

    def _count(self, line: Mapping[str, Any], client: Client, received: float) -> None:
        seconds = time.monotonic() - received
        self.metrics.requests.labels(line["outcome"]).inc()
        if line["outcome"] == "ok":
            client.total_ms.append(1e3 * seconds)
            self.metrics.seconds.observe(seconds)
        self._tell({**line, "total_ms": round(1e3 * seconds, 3)})

    def _tell(self, line: Mapping[str, Any]) -> None:
        """Logs a line. A disk that is full, or a reader that has gone, stops no robot."""
        try:
            self._log(line)
        except OSError as error:
            if self._log_works:  # said once: the operator's screen is no place for every request
                _LOG.error("the log cannot be written, its lines are lost: %s", first_line(error))
            self._log_works = False

    async def _drain(self, server: Server) -> None:
        """Lets nobody in, answers requests in progress, and closes all connections."""
        self._draining = True
        server.close(close_connections=False)
        busy = [ws for ws, client in self._clients.items() if client.busy]
        await self._close([ws for ws in self._clients if ws not in busy])
        # Their handlers close them, when they have sent the answer.
        waiting = asyncio.gather(*(ws.wait_closed() for ws in busy))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, self._service.limits.drain_s)
        await self._close(self._clients)

    async def _close(self, connections: Iterable[ServerConnection]) -> None:
        """Tells clients that the server shuts down; at once, for one may take its time."""
        await asyncio.gather(*(ws.close(CloseCode.GOING_AWAY, _ENDING) for ws in connections))


def _fault(error: Exception) -> tuple[str, str]:
    """Outcome and text of a request that failed."""
    if isinstance(error, InputError):
        return "busy" if isinstance(error, BusyError) else "refused", str(error)
    # Ours: the client gets the kind of error, the operator the traceback.
    _LOG.error("a request failed", exc_info=error)
    return "failed", f"the server failed: {type(error).__name__}: {first_line(error)}"


def _reply(answer: Answer, client: Client, received: float) -> bytes:
    """What a client gets for a request that was received at this time [s]."""
    server: dict[str, Any] = {
        "infer_ms": 1e3 * (time.monotonic() - received),
        "queue_ms": answer.queue_ms,
        "batch": answer.batch,
    }
    if client.total_ms:
        server["prev_total_ms"] = client.total_ms[-1]
    result = {
        "actions": answer.actions,
        "policy_timing": {"infer_ms": answer.infer_ms},
        "server_timing": server,
        "seed": list(answer.seed),
    }
    return wire.pack(result)


def _timing(answer: Answer) -> dict[str, Any]:
    return {
        "queue_ms": round(answer.queue_ms, 3),
        "infer_ms": round(answer.infer_ms, 3),
        "batch": answer.batch,
        "seed": list(answer.seed),
    }


def _closing(ws: ServerConnection) -> dict[str, Any]:
    return {"code": ws.close_code, "reason": ws.close_reason or ""}


def _quiet_logger() -> logging.Logger:
    """A logger of the library that says nothing of those who do not even speak HTTP."""
    logger = logging.getLogger(f"{__name__}.websockets")
    logger.addFilter(_speaks_http)
    return logger


def _speaks_http(record: logging.LogRecord) -> bool:
    # A port scanner would leave a traceback per connection.
    return record.msg != "opening handshake failed"


def _tls(listening: Listening) -> ssl.SSLContext | None:
    if listening.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listening.certificate, listening.private_key)
    return context
