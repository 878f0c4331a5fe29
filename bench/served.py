"""What bench/serve.py and bench/soak.py share: a server process, and clients of it."""

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

from pi0_jax.model.config import Pi0Config
from pi0_jax.policy.folder import PolicyFolder, save_policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robots import load_robot
from pi0_jax.serve import wire
from pi0_jax.testing import plain_stats, random_params

ROOT = Path(__file__).parents[1]
PANDA = load_robot("libero_panda")


def random_policy(config: Pi0Config) -> PolicyFolder:
    """A policy of LIBERO's robot with random parameters."""
    spec = PolicySpec(config, PANDA, execute_steps=1, tokenizer="bytes")
    return PolicyFolder(spec, random_params(0, config), plain_stats(PANDA))


@contextlib.contextmanager
def server(folder: Path, policy: PolicyFolder, *flags: str) -> Iterator[int]:
    """Runs serve.py on a policy until the block ends, and checks that it exits with 0.

    Args:
        folder: where the policy and the server's log are written.
        policy: what is served.
        *flags: of serve.py.

    Yields:
        The port.

    Raises:
        RuntimeError: it does not start, or does not end as it should.
    """
    if not (folder / "policy").exists():
        save_policy(folder / "policy", policy, {})
    command = [sys.executable, "serve.py", "--checkpoint", str(folder / "policy"), "--port", "0"]
    said = folder / "server.log"
    # Both go to files, as in operation: somebody must take what the server writes.
    with (folder / "requests.jsonl").open("wb") as log, said.open("wb") as errors:
        process = subprocess.Popen(
            [*command, *flags], cwd=ROOT, stdout=log, stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            yield _port(process, said)
        finally:
            process.terminate()
            code = process.wait(120)
    if code:
        raise RuntimeError(f"the server ended with exit code {code}:\n{said.read_text()}")


def _port(process: subprocess.Popen[bytes], said: Path) -> int:
    """Waits until the server listens, and returns where."""
    while process.poll() is None:
        if found := re.search(r"listening on ws://[\d.]+:(\d+)", said.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{said.read_text()}")


class Client:
    """As openpi's client; a context manager."""

    def __init__(self, port: int):
        self._stack = contextlib.ExitStack()
        opened = connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None)
        self.ws = self._stack.enter_context(opened)
        self.metadata = wire.unpack(self._received())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def infer(self, message: bytes) -> dict[str, Any]:
        """The result for a packed observation."""
        self.ws.send(message)
        return wire.unpack(self._received())

    def _received(self) -> bytes:
        frame = self.ws.recv()
        if isinstance(frame, str):
            raise RuntimeError(frame)
        return frame


def observation(number: int, side: int = 224, **more: Any) -> bytes:
    """A packed LIBERO observation of random pixels, 300 kB at 224 px."""
    rng = np.random.default_rng(number)
    sent: Mapping[str, Any] = {
        "observation/image": rng.integers(256, size=(side, side, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(256, size=(side, side, 3), dtype=np.uint8),
        "observation/state": rng.uniform(-1, 1, 8),
        "prompt": "lift the cube",
    }
    return wire.pack({**sent, **more})


def metrics(port: int) -> dict[str, float]:
    """What the server counts, by name with labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
