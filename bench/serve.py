"""Latency and throughput of the policy server on loopback, against calls of the policy itself.

python bench/serve.py [--size small|tiny] [--seconds 20] [--clients 1 4 16]

For one robot the server has 1 row and is compared with `policy.act` of one observation; for several
it has 8 rows and is compared with full calls of 8. "over the model" is the median time of a request
without that of its call of the policy. Clients are threads of this process, the server is another
process: on a CPU, both and the policy share the cores.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import small
from served import Client, observation, random_policy, server

from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.testing import CONFIG, raw_obs

SIZES = {"small": small, "tiny": lambda: CONFIG}
_SIDE = 224  # px of the pictures that clients send


def direct(folder: PolicyFolder, rows: int, seconds: float) -> tuple[float, float]:
    """Median milliseconds of a full call of the policy, and observations per second."""
    policy = Policy.from_folder(folder, rows=rows)
    seen = [raw_obs(policy.robot, size=_SIDE, seed=n) for n in range(rows)]
    policy.act(seen)
    taken: list[float] = []
    while sum(taken) < seconds:
        began = time.monotonic()
        policy.act(seen)
        taken.append(time.monotonic() - began)
    return 1e3 * float(np.median(taken)), rows * len(taken) / sum(taken)


def through_server(port: int, clients: int, seconds: float) -> tuple[np.ndarray, float]:
    """Requests of several clients at once.

    Returns:
        float64[requests, 2], milliseconds of each request and of its call of the policy; and
        requests per second.
    """
    found: list[tuple[float, float]] = []
    until = time.monotonic() + seconds

    def ask(number: int) -> None:
        message = observation(number, _SIDE)
        with Client(port) as client:
            while (began := time.monotonic()) < until:
                infer_ms = client.infer(message)["policy_timing"]["infer_ms"]
                found.append((1e3 * (time.monotonic() - began), infer_ms))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(found), len(found) / (time.monotonic() - began)


def compare(folder: PolicyFolder, rows: int, numbers: Sequence[int], seconds: float) -> None:
    """Prints a table for one number of rows."""
    call_ms, per_s = direct(folder, rows, seconds)
    print(f"\n{rows} rows per call: {call_ms:.1f} ms per full call, {per_s:.1f} observations/s")
    print("clients  median [ms]  p99 [ms]  over the model [ms]  requests/s  of direct calls")
    with (
        tempfile.TemporaryDirectory() as path,
        server(Path(path), folder, "--rows", str(rows)) as port,
    ):
        for clients in numbers:
            times, rate = through_server(port, clients, seconds)
            median, p99 = np.percentile(times[:, 0], [50, 99])
            over = np.median(times[:, 0] - times[:, 1])
            print(
                f"{clients:7}  {median:11.1f}  {p99:8.1f}  {over:19.2f}  {rate:10.1f}  "
                f"{rate / per_s:15.0%}",
                flush=True,
            )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    given = parser.parse_args()
    folder = random_policy(SIZES[given.size]())
    compare(folder, 1, [1], given.seconds)
    compare(folder, 8, given.clients, given.seconds)


if __name__ == "__main__":
    main()
