"""One small RIPT run on 1 device, on 8, in 2 processes and with Ray: whether it comes to the same.

python bench/same_table.py [--folder TMP]                             about 5 minutes of CPU
python train.py --config bench/same_table.py --workdir RUN            one such run by hand

Demonstrations, supervised training, RIPT and evaluation of the scripted task, by train.py. Compared
with the first run: every row of results.json, outcome and length of every episode, and the policies
before and after RIPT. Exit code 1 where an outcome differs, or a parameter by more than 1e-6. The
devices are those of the host (XLA_FLAGS), all sockets are of 127.0.0.1, and Ray needs `pip install
ray`.

A bias of attention's keys adds the same to all logits of a query, so its gradient is nothing but
rounding, which Adam scales up to the size of a learning rate. No output depends on it; these biases
have a column of their own.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from ml_collections import ConfigDict

from pi0_jax.configs import demo
from pi0_jax.io.episodes import load_episodes
from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.policy.folder import load_policy
from pi0_jax.run.success import markdown, row_from_dict

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-6  # of a parameter
_KEYS = re.compile(r".*MultiHeadDotProductAttention_0/key/bias")
_HEAD = ("run", "outcomes equal", "largest difference of a parameter", "of a bias of keys", "s")
_HERE = "127.0.0.1"
_START_S = 120  # until Ray listens


def get_config() -> ConfigDict:
    """The run: most of its time is that of starting and compiling, and some episodes succeed."""
    config: Any = demo.get_config()
    config.suite, config.task = "scripted", {"tolerance": 0.4, "speed": 0.2}
    config.execute_steps, config.pool.workers = 8, 2
    config.demonstrations.episodes, config.baselines = 24, {}
    config.sft.update({"steps": 40, "batch_size": 16, "save_every": 20})
    config.rl.update({"iterations": 2, "updates_per_iteration": 8, "batch_size": 16})
    config.rl.groups.update({"group_size": 4, "groups_per_iteration": 6, "max_groups": 12})
    # Rounding grows with the rate: at the demo's own, parameters come to differ by 1.4e-6.
    for trained in (config.sft, config.rl):
        trained.optimizer.update({"learning_rate": 5e-4, "warmup_steps": 2})
    config.eval.update({"episodes": 24, "videos": 0, "guidance": (1.0, 2.0)})
    return config


@dataclass(frozen=True)
class Way:
    """How a run is laid out.

    Attributes:
        name: of its row.
        flags: of train.py.
        processes: how many run it together.
        devices: of each process.
        ray: whether its simulators are on Ray.
    """

    name: str
    flags: tuple[str, ...] = ()
    processes: int = 1
    devices: int = 1
    ray: bool = False


WAYS = (
    Way("1 device"),
    Way(
        "8 devices: data=2, fsdp=4",
        ("--config.hardware.data=2", "--config.hardware.fsdp=4"),
        devices=8,
    ),
    Way("2 processes of 1 device: fsdp=2", ("--config.hardware.fsdp=2",), processes=2),
    Way("1 device, simulators on Ray", ("--config.pool.engine=ray",), ray=True),
)


def main() -> int:
    """Prints the table as it grows; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to make the runs; else a temporary one")
    given = parser.parse_args().folder
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}")
    good, wanted = True, None
    with contextlib.nullcontext(given) if given else tempfile.TemporaryDirectory() as folder:
        for number, way in enumerate(WAYS):
            if way.ray and not find_spec("ray"):
                print(f"| {way.name} | not run: Ray is not installed | | | |")
                continue
            start, run = time.monotonic(), Path(folder) / str(number)
            made(way, run)
            wanted = wanted or run
            equal, (apart, of_keys) = outcomes(run) == outcomes(wanted), differences(run, wanted)
            good &= equal and apart <= TOLERANCE
            numbers = f"{apart:.1e} | {of_keys:.1e} | {time.monotonic() - start:.0f}"
            print(f"| {way.name} | {'yes' if equal else 'NO'} | {numbers} |", flush=True)
        assert wanted
        print(f"\n{markdown([row_from_dict(row) for row in outcomes(wanted)['rows']])}")
    return 0 if good else 1


def made(way: Way, run: Path) -> None:
    """Makes a run.

    Raises:
        RuntimeError: a process has failed; the message has what it said.
    """
    command = [sys.executable, "train.py", f"--config={__file__}", f"--workdir={run}", *way.flags]
    flags = f"--xla_force_host_platform_device_count={way.devices}"
    # Threads enough that all devices of a process can wait for each other.
    env = os.environ | {"XLA_FLAGS": flags, "NPROC": str(2 * way.devices)}
    with contextlib.ExitStack() as stack:
        if way.ray:
            command.append(f"--config.pool.address={stack.enter_context(ray_head())}")
            env |= _RAY
        coordinator = _free_address()
        logs = [run.with_suffix(f".{host}.log") for host in range(way.processes)]
        processes = []
        for host, log in enumerate(logs):
            place = [f"--host={host}/{way.processes}", f"--coordinator={coordinator}"]
            several = place if way.processes > 1 else []
            file = stack.enter_context(log.open("w"))
            processes.append(
                subprocess.Popen([*command, *several], cwd=ROOT, env=env, stdout=file, stderr=file)
            )
        # One that fails ends the others.
        if any([process.wait() for process in processes]):
            raise RuntimeError("\n".join(f"{log}:\n{log.read_text()}" for log in logs))


# Without the first Ray takes 127.0.0.1 for this machine's outer address (docs/cluster.md).
_RAY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextlib.contextmanager
def ray_head() -> Iterator[str]:
    """A cluster of one node, as `ray start --head` makes it; gives its address."""
    address = _free_address()
    ray, port = Path(sys.executable).with_name("ray"), address.rpartition(":")[2]
    command = [ray, "start", "--head", "--block", f"--node-ip-address={_HERE}", f"--port={port}"]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        own = ["--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"]
        head = subprocess.Popen([*command, *own], env=os.environ | _RAY, stdout=subprocess.DEVNULL)
        try:
            _wait_for(int(port))
            yield address
        finally:
            head.terminate()
            head.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection((_HERE, port)).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"Ray does not listen at {_HERE}:{port} after {_START_S} s")


def _free_address() -> str:
    with socket.socket() as free:
        free.bind((_HERE, 0))
        return f"{_HERE}:{free.getsockname()[1]}"


def outcomes(run: Path) -> dict[str, Any]:
    """Everything that came out of a run: rows of results, and each episode of each file."""
    found = json.loads((run / "results.json").read_text())
    for path in sorted((run / "episodes").rglob("*.npz")):
        ended = [(e.task, e.seed, e.init_hash, e.success, len(e)) for e in load_episodes(path)]
        found[str(path.relative_to(run))] = ended
    return {name: value for name, value in found.items() if name != "protocol"}


def differences(one: Path, other: Path) -> tuple[float, float]:
    """The largest difference of a parameter of two runs, before and after RIPT; of keys' biases."""
    found, of_keys = [0.0], [0.0]
    for folder in ("base", "policy"):
        leaves, others = (leaves_by_path(load_policy(run / folder).params) for run in (one, other))
        for path, leaf in leaves.items():
            apart = float(np.abs(leaf - others[path]).max())
            (of_keys if _KEYS.fullmatch(path) else found).append(apart)
    return max(found), max(of_keys)


if __name__ == "__main__":
    sys.exit(main())
