"""Starts the processes of a run on this machine, bound to 127.0.0.1, with devices of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(
    script: Path, *arguments: str, devices: int = 1, log: Path, folder: Path = ROOT
) -> subprocess.Popen:
    """A process with so many devices in a working folder; what it says goes into a file."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    # Threads enough that two devices of one process can wait for each other.
    surroundings = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "4"}
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, script, *arguments], env=surroundings | {"PYTHONPATH": str(ROOT)},
            cwd=folder, stdout=file, stderr=file,
        )  # fmt: skip


def codes(processes: Sequence[subprocess.Popen], timeout: float = 1800) -> list[int]:
    """Waits for their ends."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
