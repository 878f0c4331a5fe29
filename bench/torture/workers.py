"""Simulator workers that are killed, stopped or starved while a run needs them."""

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torture import resume
from torture.compare import differences
from torture.ground import RUN, Ended, Ground, Row
from torture.stopping import children_of, state_of
from torture.tiny_run import ROOT, TRAIN, command, environment

_WORKERS = 2
# More to do than in the unbroken run, so that faults meet it more often.
_TRAIN = (
    *TRAIN,
    "--config.demonstrations.episodes=12",
    "--config.rl.iterations=8",
    "--config.eval.episodes=12",
    f"--config.pool.workers={_WORKERS}",
    "--config.pool.timeout_s=6",
)
# A simulator has three minutes to be built, and a worker two to start; here both have seconds.
_HASTY = """
import runpy, sys
from pi0_jax.env.workers import seat
seat.BUILD_TIMEOUT_S, seat.START_TIMEOUT_S = 6.0, 20.0
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_PERIOD_S = 0.5
# Workers that are killed while they start, three times in a row, end the run.
_OLD_ENOUGH_S = 2.5

Attack = Callable[[Sequence[int], random.Random], int]
"""Attacks some of the workers with these process ids; returns how many."""


def attacked(ground: Ground, attacks: Sequence[str] | None = None) -> Iterator[Row]:
    """At most one attack per half second; nothing is lost, the run ends as an unbroken one."""
    wanted = _unbroken(ground)
    for name in attacks or ATTACKS:
        ground.begin()
        ended, hits = _attack(ground, ATTACKS[name], random.Random(name))
        # Where no worker can start the run ends in one line, and can be resumed.
        wrong = [] if ended.code in (0, 1, 2) else [f"exit {ended.code}"]
        wrong += ["a traceback"] if "Traceback" in ended.said else []
        error = resume.train(ground.root / RUN, *_TRAIN, "--resume") if ended.code else ""
        wrong += [error] if error else differences(wanted, ground.root / RUN)
        said = "" if ended.code == 0 else f": {ended.last}, and resumed"
        yield Row(f"workers: {name}", hits, wrong, f"exit {ended.code}{said}")


def _unbroken(ground: Ground) -> Path:
    """The same run without an attack, in this process."""
    run = ground.begin()
    if error := resume.train(run, *_TRAIN):
        raise RuntimeError(error)
    wanted = ground.folder / "kept/workers"
    shutil.copytree(run, wanted)
    return wanted


def _attack(ground: Ground, attack: Attack, draw: random.Random) -> tuple[Ended, int]:
    """Runs train.py under attack; returns how it ended, and how many attacks there were."""
    run, log = ground.root / RUN, ground.folder / "said"
    words = command("-c", _HASTY, "train.py", *_TRAIN, f"--workdir={run}")
    hits, seen = 0, {}
    with (
        log.open("w") as said,
        subprocess.Popen(words, cwd=ROOT, env=environment(ground.cache), stderr=said) as process,
    ):
        while process.poll() is None:
            time.sleep(_PERIOD_S)
            workers = [pid for pid in children_of(process.pid) if _is_worker(pid)]
            for pid in workers:
                seen.setdefault(pid, time.monotonic())
            old = [pid for pid in workers if time.monotonic() - seen[pid] > _OLD_ENOUGH_S]
            hits += attack(old, draw) if old else 0
    return Ended(process.returncode, log.read_text()), hits


def _one(number: int) -> Attack:
    """A signal to one of them."""
    return lambda pids, draw: _send(number, [draw.choice(pids)])


def _stopped_one_by_one(pids: Sequence[int], draw: random.Random) -> int:
    """The next is stopped when the last was replaced, and all have worked for a while.

    A job that meets three stopped workers in a row is given up, and one that takes as long as the
    time between two attacks would meet the third.
    """
    calm = len(pids) == _WORKERS and "T" not in map(state_of, pids)
    return _one(signal.SIGSTOP)(pids, draw) if calm else 0


def _all_at_once(pids: Sequence[int], draw: random.Random) -> int:
    """Every few seconds, so that some can start."""
    return _send(signal.SIGKILL, pids) if draw.random() < _PERIOD_S / 3 else 0


def _without_cpu(pids: Sequence[int], draw: random.Random) -> int:
    """They run for a fiftieth of the time, as on a machine with far too much to do."""
    del draw
    for number, seconds in itertools.islice(
        itertools.cycle([(signal.SIGSTOP, 0.098), (signal.SIGCONT, 0.002)]), 20
    ):
        _send(number, pids)
        time.sleep(seconds)
    return len(pids)


def _without_memory(pids: Sequence[int], draw: random.Random) -> int:
    """No more memory than 150 MB for one of them."""
    limit = (150 * 10**6, 150 * 10**6)
    try:
        resource.prlimit(draw.choice(pids), resource.RLIMIT_AS, limit)
    except ProcessLookupError:
        return 0
    return 1


ATTACKS: dict[str, Attack] = {
    "one killed every half second": _one(signal.SIGKILL),
    "all killed at once": _all_at_once,
    "one stopped (SIGSTOP), then the next": _stopped_one_by_one,
    "starved of CPU, 1/50 is left": _without_cpu,
    "starved of memory, 150 MB are left": _without_memory,
}


def _send(number: int, pids: Sequence[int]) -> int:
    sent = 0
    for pid in pids:
        # It may have ended, or been replaced, in the meantime.
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        sent += 1
    return sent


def _is_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return b"pi0_jax.env.workers.worker" in file.read()
    except OSError:
        return False
