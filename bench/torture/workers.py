"""Simulator workers that are killed, stopped or starved while a run needs them."""

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from torture.ground import RUN, Ground, Row
from torture.stopping import children_of, resumed
from torture.tiny_run import ROOT, TRAIN, command, environment

_WORKERS = ("--config.pool.workers=2", "--config.pool.timeout_s=3")


def attacked(ground: Ground) -> Iterator[Row]:
    """Attacks on one worker every half second; no episode is lost, the run ends as unbroken."""
    attacks = {
        "workers killed": lambda pid: os.kill(pid, signal.SIGKILL),
        "workers stopped (SIGSTOP)": lambda pid: os.kill(pid, signal.SIGSTOP),
        "workers starved (150 MB of memory)": _starve,
    }
    for name, attack in attacks.items():
        ground.begin()
        code, said, hits = _attack(ground, attack, random.Random(name))
        wrong = ["a traceback"] if "Traceback" in said else []
        # Where no worker can start the run ends in one line, and can be resumed.
        if code not in (0, 1, 2):
            wrong.append(f"exit {code}")
        yield Row(name, hits, wrong + resumed(ground), f"exit {code}")


def _attack(
    ground: Ground, attack: Callable[[int], None], draw: random.Random
) -> tuple[int, str, int]:
    run = ground.root / RUN
    words = command("train.py", *TRAIN, *_WORKERS, f"--workdir={run}")
    hits, seen = 0, {}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(ground.cache), stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            time.sleep(0.5)
            workers = [pid for pid in children_of(process.pid) if _is_worker(pid)]
            for pid in workers:
                seen.setdefault(pid, time.monotonic())
            # Killed while they start, three times in a row, no worker can start.
            ready = [pid for pid in workers if time.monotonic() - seen[pid] > 3]
            if ready and (run / "episodes").exists():
                attack(draw.choice(ready))
                hits += 1
        said = process.communicate()[1]
    return process.returncode, said, hits


def _starve(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_AS, (150 * 10**6, 150 * 10**6))


def _is_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return b"pi0_jax.env.workers.worker" in file.read()
    except OSError:
        return False
