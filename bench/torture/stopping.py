"""Signals in the middle of real processes: what they say, how they end, and what is kept.

The recorder raises the signal before a change of the file system, so that each stage is met.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from torture import ground as grounds
from torture.compare import differences
from torture.ground import RUN, Ground, Row
from torture.recorder import Kind
from torture.tiny_run import ROOT, TRAIN, command, environment

STAGES = {
    "the first write": (".config.json.partial", Kind.CREATE),
    "demonstrations": ("demonstrations.parts/scripted_1.npz", Kind.RENAME),
    "SFT": ("run/checkpoints/.2.pi0_jax-partial", Kind.MKDIR),
    "evaluation": ("eval/base_1.parts/scripted_100000.npz", Kind.RENAME),
    "RL": ("run/checkpoints/.5.pi0_jax-partial", Kind.MKDIR),
    "videos": ("videos/.ript", Kind.CREATE),
    "export": (".policy.pi0_jax-partial", Kind.MKDIR),
}
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def stopped(ground: Ground, stages: tuple[str, ...] = tuple(STAGES)) -> Iterator[Row]:
    """Each signal at each stage: exit 130, a last line with the command, and an equal end."""
    for number in _STOP:
        wrong = []
        for stage in stages:
            ground.begin()
            at = ground.number_of(*STAGES[stage])
            ended = ground.train(**ground.recording(kill_at=at, signal=number))
            wrong += [f"{stage}: {fault}" for fault in _faults(ground, ended)]
        yield Row(f"{number.name} at {len(stages)} stages", len(stages), wrong)


def killed(ground: Ground, stages: tuple[str, ...] = tuple(STAGES)) -> Iterator[Row]:
    """A kill -9 of the real process, whose states are otherwise replayed."""
    wrong = []
    for stage in stages:
        ground.begin()
        at = ground.number_of(*STAGES[stage])
        ended = ground.train(**ground.recording(kill_at=at, signal=signal.SIGKILL))
        found = [] if ended.code == -9 else [f"exit {ended.code}"]
        wrong += [f"{stage}: {fault}" for fault in found + resumed(ground)]
    yield Row("kill -9 of a real process at these stages", len(stages), wrong)


def twice(ground: Ground) -> Iterator[Row]:
    """A second signal, while the first waits for an update: exit 130 at once."""
    ground.begin()
    run = ground.root / RUN
    words = command("train.py", *TRAIN, "--config.sft.steps=100000", f"--workdir={run}")
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(ground.cache), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(run / "checkpoints", process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        said = process.communicate(timeout=60)[1]
    seconds = time.monotonic() - start
    wrong = [] if process.returncode == 130 else [f"exit {process.returncode}: {said[-300:]}"]
    wrong += [] if seconds < 5 else [f"ended after {seconds:.0f} s"]
    wrong += ["a traceback"] if "Traceback" in said else []
    yield Row("a second signal at once", 1, wrong)


def resumed(ground: Ground) -> list[str]:
    """Resumes the run in the root to its end; what differs from the unbroken one."""
    error = grounds.train_again(ground.root)
    return [error] if error else differences(ground.wanted / RUN, ground.root / RUN)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Waits until a file exists, or the process has ended."""
    deadline = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def orphans(ground: Ground) -> Iterator[Row]:
    """A kill -9 of the parent of workers, of which one is stopped: all end by themselves."""
    ground.begin()
    run = ground.root / RUN
    words = command("train.py", *TRAIN, "--config.pool.workers=2", f"--workdir={run}")
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(ground.cache), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(run / "checkpoints", process)
        workers = children_of(process.pid)
        if workers:
            os.kill(workers[0], signal.SIGSTOP)
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    wrong = [] if len(workers) == 2 else [f"expected 2 workers, met {len(workers)}"]
    wrong += [f"worker {pid} is still there after 20 s" for pid in left] + resumed(ground)
    yield Row("kill -9 of a parent whose worker is stopped", 1, wrong)


def _faults(ground: Ground, ended: grounds.Ended) -> list[str]:
    found = [] if ended.code == 130 else [f"exit {ended.code}"]
    found += ["a traceback"] if "Traceback" in ended.said else []
    if not ended.last.startswith("error: interrupted; to continue: "):
        found.append(f"last line {ended.last!r}")
    if "--resume" not in ended.last:
        found.append("no --resume in the last line")
    return found + resumed(ground)
