"""A soak of the policy server: healthy clients beside kills, garbage and stallers; counts losses.

python bench/soak.py [--minutes 10] [--clients 8]

Every healthy client repeats one observation and one seed, and compares each answer with its first,
bit for bit. Beside them, all the time: a client process that is killed (SIGKILL) and replaced,
connections that are reset in the middle of a message, garbage, wrong observations, huge messages, a
client that stalls, and more connections than there is room for. Prints the server's memory and file
descriptors at every minute. Exit code 1 if a healthy client lost a request.
"""

import argparse
import contextlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from served import ROOT, Client, metrics, observation, random_policy, server
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from pi0_jax.serve import wire
from pi0_jax.testing import CONFIG

_LIMITS = ("--rows", "4", "--num-flow-steps", "2", "--max-clients", "24", "--max-message-mib", "1")
_PAUSE_S = 0.05
# Of a masked binary frame of 1000 bytes, which do not come.
_HEAD = bytes([0x82, 0xFE, 1000 >> 8, 1000 & 255, 1, 2, 3, 4, 0, 0])


class Healthy(threading.Thread):
    """A client that repeats a request until `stop`; `lost` is why it ended before."""

    def __init__(self, port: int, number: int, stop: threading.Event):
        super().__init__()
        self.answers, self.lost = 0, ""
        self._port, self._number, self._stop_event = port, number, stop

    def run(self) -> None:
        """Asks and compares."""
        try:
            message = observation(self._number, side=64, seed=self._number)
            with Client(self._port) as client:
                first = client.infer(message)["actions"]
                while not self._stop_event.is_set():
                    np.testing.assert_array_equal(client.infer(message)["actions"], first)
                    self.answers += 1
                    time.sleep(_PAUSE_S)
        # Whatever it is, a healthy client must not meet it.
        except Exception as error:  # noqa: BLE001
            self.lost = f"client {self._number}: {type(error).__name__}: {error}"


def victim(port: int) -> None:
    """A client that asks until it is killed."""
    message = observation(99, side=64)
    with Client(port) as client:
        while True:
            client.infer(message)


def kill_clients(port: int, stop: threading.Event, done: Counter[str]) -> None:
    """Starts client processes and kills each after some seconds."""
    while not stop.is_set():
        command = [sys.executable, __file__, "--victim", str(port)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            stop.wait(5)
            process.kill()
        done["killed processes"] += 1


def misbehave(port: int, stop: threading.Event, done: Counter[str]) -> None:
    """Takes turns at everything that a client may do wrong."""
    wrong = {"prompt": "lift it", "observation/state": np.full(8, np.nan)}
    messages = {
        "garbage": b"\xc1" * 1000,
        "text frames": "hello",
        "wrong observations": wire.pack(wrong),
        "huge messages": bytes(2**21),
    }
    while not stop.is_set():
        for name, message in messages.items():
            with contextlib.suppress(OSError, WebSocketException), _connected(port) as ws:
                ws.send(message)
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        ws.recv(timeout=30)
            done[name] += 1
            stop.wait(0.2)
        _reset_in_a_message(port)
        done["resets in a message"] += 1
        stop.wait(0.2)


@contextlib.contextmanager
def _connected(port: int) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as ws:
        yield ws


def _reset_in_a_message(port: int) -> None:
    with contextlib.suppress(OSError, WebSocketException), _connected(port) as ws:
        ws.recv(timeout=30)
        ws.socket.sendall(_HEAD)
        ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ws.socket.close()


def crowd(port: int, stop: threading.Event, done: Counter[str]) -> None:
    """Opens more connections than there is room for, one of which stalls, and closes them."""
    while not stop.wait(15):
        with contextlib.ExitStack() as stack:
            inside: list[ClientConnection] = []
            for _ in range(40):
                try:
                    inside.append(stack.enter_context(_connected(port)))
                except (OSError, WebSocketException):
                    done["refused connections"] += 1
            done["idle connections"] += len(inside)
            for ws in inside[:1]:
                with contextlib.suppress(OSError, WebSocketException):
                    ws.socket.sendall(_HEAD)
            stop.wait(3)


def run(port: int, clients: int, minutes: float) -> bool:
    """Soaks a server; returns whether no healthy client lost a request."""
    stop, done = threading.Event(), Counter[str]()
    healthy = [Healthy(port, number, stop) for number in range(clients)]
    others = [
        threading.Thread(target=work, args=(port, stop, done))
        for work in (kill_clients, misbehave, crowd)
    ]
    for thread in healthy:
        thread.start()
    time.sleep(5)
    for thread in others:
        thread.start()
    print("minute  answers  memory [MiB]  file descriptors  clients with losses", flush=True)
    began = time.monotonic()
    for minute in range(int(minutes) + 1):
        time.sleep(max(0.0, began + 60 * minute - time.monotonic()))
        _report(port, str(minute), healthy)
    stop.set()
    for thread in (*others, *healthy):
        thread.join()
    time.sleep(2)
    _report(port, "end", healthy)
    print(", ".join(f"{name}: {count}" for name, count in sorted(done.items())))
    for one in filter(None, (thread.lost for thread in healthy)):
        print(one)
    return all(thread.answers and not thread.lost for thread in healthy)


def _report(port: int, when: str, healthy: list[Healthy]) -> None:
    found, answers = metrics(port), sum(thread.answers for thread in healthy)
    memory, files = found["process_resident_memory_bytes"] / 2**20, found["process_open_fds"]
    lost = sum(bool(thread.lost) for thread in healthy)
    print(f"{when:>6}  {answers:7}  {memory:12.1f}  {files:16.0f}  {lost:19}", flush=True)


def main() -> None:
    """Starts a server and soaks it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--victim", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.victim:
        victim(given.victim)
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), random_policy(CONFIG), *_LIMITS) as port,
    ):
        good = run(port, given.clients, given.minutes)
    sys.exit(not good)


if __name__ == "__main__":
    main()
