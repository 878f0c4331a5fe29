"""What clients may do wrong, and a log that cannot be written: it hurts nobody else."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from servers import Client, Slow, get, observation, panda_policy, running, service, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pi0_jax.serve import wire
from pi0_jax.serve.settings import Limits


@pytest.fixture(scope="module")
def policy():
    return panda_policy()


@pytest.fixture(scope="module")
def up(policy):
    """A server with the limits that the tests reach."""
    limits = Limits(message_bytes=200_000, clients=12, ping_s=0.5)
    with running(service(policy, limits=limits)) as found:
        yield found


# What a client may do wrong -> what it is told.
FAULTS = {
    "a text frame": ("hello", "expected a binary frame"),
    "garbage": (b"\xc1\xc1", "expected one msgpack message"),
    "no map": (wire.pack([1]), "expected a map of an observation"),
    "a wrong key": (wire.pack(observation() | {"observation/imag": 0}), "unknown key"),
    "no image": (wire.pack({"prompt": "x"}), "is missing"),
    "a wrong dtype": (
        wire.pack(observation() | {"observation/image": np.zeros((9, 9, 3), np.int32)}),
        "expected an image",
    ),
    "a wrong shape": (
        wire.pack(observation() | {"observation/state": np.zeros(9)}),
        "expected a state of 8",
    ),
    "NaN": (wire.pack(observation() | {"observation/state": np.full(8, np.nan)}), "NaN"),
    "a prompt that is too long": (wire.pack(observation() | {"prompt": "x" * 99}), "prompt"),
    # Finite, and no longer when it is normalised: the policy's actions would be NaN.
    "numbers that overflow": (
        wire.pack(observation() | {"observation/state": np.full(8, 3e38)}),
        "the state: expected numbers that are at most 1e+12",
    ),
    "half of a letter": (
        wire.pack(observation() | {"prompt": np.array("\ud800")}),
        "'prompt': expected a text",
    ),
    "no pixels": (
        wire.pack(observation() | {"observation/image": np.zeros((0, 0, 3), np.uint8)}),
        "got 0 x 0",
    ),
    "maps without end": (b"\x81\xa1a" * 990 + b"\x00", "at most 8 maps in one another"),
    "lists without end": (
        b"\x85" + wire.pack(observation())[1:] + b"\xa4seed" + b"\x91" * 990 + b"\x00",
        "'seed': expected a whole number",
    ),
}


@pytest.fixture(scope="module")
def healthy(up):
    """Two clients that go on asking; at the end, every request has its answer and the bits."""
    stop, counts = threading.Event(), []

    def ask(seed: int) -> None:
        sent = observation(seed) | {"seed": seed}
        with Client(up.uri) as client:
            first, count = client.infer(sent)["actions"], 1
            while not stop.is_set():
                np.testing.assert_array_equal(client.infer(sent)["actions"], first)
                count += 1
                time.sleep(0.01)
        counts.append(count)

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, seed) for seed in (1, 2)]
        yield asked
        stop.set()
        for one in asked:
            one.result(20)
    assert len(counts) == 2
    assert min(counts) >= 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_clear_error_to_its_sender(up, healthy, name):
    message, match = FAULTS[name]
    with connect(up.uri, compression=None) as ws:
        ws.recv(timeout=20)
        ws.send(message)
        told = ws.recv(timeout=20)
        assert isinstance(told, str)
        assert match in told
        assert "\n" not in told
        with pytest.raises(ConnectionClosed, match="1011"):
            ws.recv(timeout=20)
    assert not any(one.done() for one in healthy)


def test_a_huge_message_is_refused(up, healthy):
    with connect(up.uri, compression=None) as ws:
        ws.recv(timeout=20)
        with pytest.raises(ConnectionClosed, match="1009"):
            ws.send(bytes(300_000))
            ws.recv(timeout=20)
    assert not any(one.done() for one in healthy)


def test_who_stalls_in_the_middle_of_a_message_is_closed(up, healthy):
    with connect(up.uri, compression=None, ping_interval=None) as ws:
        ws.recv(timeout=20)
        # The head of a masked binary frame of 1000 bytes, and nothing after it.
        ws.socket.sendall(bytes([0x82, 0xFE, 1000 >> 8, 1000 & 255, 1, 2, 3, 4]))
        with pytest.raises(ConnectionClosed, match="keepalive ping timeout"):
            ws.recv(timeout=20)
    assert not any(one.done() for one in healthy)


def test_two_hundred_connections_at_once(up, healthy):
    """Ten more than the two that are there find room; the others are told so."""

    def enter(_: int) -> tuple[str, Any]:
        try:
            return "in", Client(up.uri, open_timeout=30)
        except InvalidStatus as error:
            assert error.response.status_code == 503
            return error.response.body.decode(), None

    with ThreadPoolExecutor(200) as threads:
        found = list(threads.map(enter, range(200)))
    inside = [client for text, client in found if client]
    assert len(inside) == 10
    assert {text for text, client in found if not client} == {
        "this server takes 12 clients at a time, and has them; try again later\n"
    }
    for client in inside:
        assert client.infer(observation())["actions"].shape == (4, 7)
        client.close()
    assert not any(one.done() for one in healthy)


def test_who_leaves_before_its_answer_hurts_nobody(policy):
    gate = threading.Event()
    with running(service(Slow(policy, gate))) as up, Client(up.uri) as there:
        gone = Client(up.uri)
        gone.ws.send(wire.pack(observation()))
        until(up.busy)
        gone.ws.socket.close()
        gate.set()
        assert there.infer(observation())["actions"].shape == (4, 7)


def test_who_leaves_before_its_answer_leaves_the_queue(policy):
    gate = threading.Event()
    with running(service(Slow(policy, gate), limits=Limits(queue=2))) as up:
        there = Client(up.uri)
        there.ws.send(wire.pack(observation()))
        until(up.busy)
        until(lambda: not len(up.server._batcher))  # its call has begun
        for politely in (True, False) * 3:
            gone = Client(up.uri)
            gone.ws.send(wire.pack(observation()))
            until(lambda: len(up.server._batcher) == 1)
            gone.close() if politely else gone.ws.socket.close()
            until(lambda: not len(up.server._batcher))
        until(lambda: len(up.server._clients) == 1)
        gate.set()
        assert wire.unpack(there.received())["actions"].shape == (4, 7)
        there.close()
    outcomes = [line["outcome"] for line in up.lines if line["event"] == "request"]
    assert outcomes == ["gone"] * 6 + ["ok"]


def test_a_log_that_cannot_be_written_stops_nobody(policy, caplog):
    def full(line) -> None:
        raise OSError(28, "No space left on device")

    with running(service(policy), log=full) as up:
        for _ in range(2):
            with Client(up.uri) as client:
                assert client.infer(observation())["actions"].shape == (4, 7)
            until(lambda: not up.server._clients)
        assert get(up.uri + "/healthz")[0] == 200
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "the log cannot be written, its lines are lost: [Errno 28] No space left on device"
    )


def test_a_client_that_could_not_be_entered_is_no_client(policy):
    def broken(line) -> None:
        raise ValueError("a bug of ours")

    with running(service(policy), log=broken) as up:
        with pytest.raises(ConnectionClosed, match="1011"):
            Client(up.uri)
        until(lambda: not up.server._clients)


def test_who_does_not_speak_http_leaves_no_traceback(up, healthy, caplog):
    with socket.create_connection(("127.0.0.1", up.port)) as stranger:
        stranger.sendall(b"\x16\x03\x01garbage\r\n\r\n")
        assert stranger.recv(1000) == b""
    assert caplog.text == ""
    assert not any(one.done() for one in healthy)
