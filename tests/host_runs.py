"""Whole runs over hosts, which are processes of this machine: how they are made and compared."""

import dataclasses
import json
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hosts
import jax
import numpy as np

from pi0_jax.io.orbax_tree import load_tree
from pi0_jax.policy.folder import load_policy

TRAIN = Path(hosts.__file__).with_name("hosts_train.py")
# Of one machine, or of what it is doing besides.
CLOCKS = (
    *("time", "elapsed", "seconds", "env_steps", "episodes_per"),
    *("host_peak", "observations", "padding"),
)


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where runs are made.

    Attributes:
        config: of all runs, and further flags.
        disks: working folder of each host, to which paths are relative.
    """

    config: tuple[str, ...]
    disks: tuple[Path, Path]

    def start(
        self,
        name: str,
        *more: str,
        count: int = 2,
        script: Path = TRAIN,
        own: tuple[tuple[str, ...], ...] = ((), ()),
    ) -> list:
        """The processes of a run: two hosts of one device, or one of two.

        Args:
            name: of the run.
            more: flags of all hosts.
            count: of processes.
            script: what runs.
            own: flags of each host.
        """
        address = hosts.free_address()
        places = [(f"--host={i}/{count}", f"--coordinator={address}") for i in range(count)]
        return [
            hosts.start(
                script,
                *self.config,
                f"--workdir={name}",
                *more,
                *own[host],
                *(place if count > 1 else ()),
                devices=2 // count,
                log=self._log(name, host),
                folder=self.disks[host],
            )
            for host, place in enumerate(places)
        ]

    def run(self, name: str, *more: str, count: int = 2, **how: Any) -> Path:
        """A run to its end; arguments as in `start`."""
        codes = hosts.codes(self.start(name, *more, count=count, **how))
        assert codes == [0] * count, self.said(name, 0)[-1:]
        return self.disks[0] / name

    def stop(self, name: str, file: str, host: int, timeout: float = 60) -> None:
        """A run of which one host gets a signal when there is a file, and both end."""
        processes = self.start(name)
        until(self.disks[0] / name / file, processes)
        processes[host].send_signal(signal.SIGTERM)
        assert hosts.codes(processes, timeout) == [130, 130]

    def said(self, name: str, host: int) -> list[str]:
        return self._log(name, host).read_text().splitlines()

    def _log(self, name: str, host: int) -> Path:
        return self.disks[0] / f"{name}.{host}.log"


def params(folder: Path) -> list[np.ndarray]:
    return jax.tree.leaves(load_policy(folder).params)


def lines(run: Path) -> list[dict]:
    found = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.startswith(CLOCKS)} for line in found]


def assert_equal_training(a: Path, b: Path, *policies: str) -> None:
    """Policies, metrics and checkpoints to the bit, without clocks."""
    for folder in policies:
        for x, y in zip(params(a / folder), params(b / folder), strict=True):
            np.testing.assert_array_equal(x, y)
    assert lines(a) == lines(b)
    states = [path.relative_to(a) for path in sorted(a.rglob("checkpoints/*/state"))]
    assert len(states) >= 2
    for state in states:
        trees = (load_tree(run / state) for run in (a, b))
        for x, y in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_array_equal(x, y)


def until(path: Path, processes: Sequence[subprocess.Popen]) -> None:
    """Waits for a file of a run."""
    while not path.exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
