"""Signals in the middle of real processes: what they say, how they end, and what is kept.

The recorder raises the signal before a change of the file system, so that each stage is met.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from torture import ground as grounds
from torture.compare import differences
from torture.disk import read_tree
from torture.ground import RUN, Ended, Ground, Row
from torture.jobs import OUT, conversions, evaluation
from torture.moments import STAGES, Call, Change
from torture.recorder import Kind
from torture.tiny_run import ROOT, TRAIN, command, environment

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Kills are replayed; of real processes a few.
_KILLED = ("demonstrations", "SFT checkpoint", "RL rollout", "RL update", "RL checkpoint", "export")
_EVALUATION = Change("eval/policy_1.parts/scripted_100001.npz", Kind.RENAME)
_CONVERSION = Change(f"{OUT}.pi0_jax-partial", Kind.MKDIR)


def stopped(ground: Ground, stages: Iterable[str] = STAGES) -> Iterator[Row]:
    """Each signal at each stage: exit 130, a last line with the command, and an equal end."""
    for number in _STOP:
        wrong = at_stages(
            ground, {stage: STAGES[stage] for stage in stages}, _faults, signal=number
        )
        yield Row(f"{number.name} at {len([*stages])} stages of train.py", len([*stages]), wrong)


def others(ground: Ground) -> Iterator[Row]:
    """Each signal in eval.py, and in conversions, which leave nothing behind."""
    job = evaluation(ground)
    wrong = []
    for number in _STOP:
        ended = job.meet(ground, _EVALUATION, signal=number)
        wrong += [f"{number.name}: {fault}" for fault in _faults(ended) + job.repeated(ground)]
    yield Row("SIGTERM, SIGINT, SIGUSR1 in eval.py", len(_STOP), wrong)
    wrong, made = [], conversions(ground)
    for job in made:
        for number in _STOP:
            ended = job.meet(ground, _CONVERSION, signal=number)
            found = _how_it_ended(ended, "error: interrupted; nothing was written")
            found += [] if read_tree(ground.root) == (job.run.before or {}) else ["leaves files"]
            found += job.repeated(ground)
            wrong += [f"{job.name}: {number.name}: {fault}" for fault in found]
    yield Row("SIGTERM, SIGINT, SIGUSR1 in conversions", len(made) * len(_STOP), wrong)


def killed(ground: Ground, stages: tuple[str, ...] = _KILLED) -> Iterator[Row]:
    """A kill -9 of the real process, whose states are otherwise replayed."""
    moments = {stage: STAGES[stage] for stage in stages}
    wrong = at_stages(ground, moments, _not_killed, signal=signal.SIGKILL)
    yield Row("kill -9 of a real process", len(stages), wrong, ", ".join(stages))


def twice(ground: Ground) -> Iterator[Row]:
    """A second signal, while the first waits for an update: exit 130 at once."""
    with _training(ground, "--config.sft.steps=100000") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        said = process.communicate(timeout=60)[1]
    seconds = time.monotonic() - start
    wrong = [] if process.returncode == 130 else [f"exit {process.returncode}: {said[-300:]}"]
    wrong += [] if seconds < 5 else [f"ended after {seconds:.0f} s"]
    wrong += ["a traceback"] if "Traceback" in said else []
    yield Row("a second signal at once", 1, wrong)


@contextlib.contextmanager
def _training(ground: Ground, flag: str) -> Iterator[subprocess.Popen[str]]:
    """A run of train.py, begun anew, that is past its first checkpoint."""
    ground.begin()
    run = ground.root / RUN
    words = command("train.py", *TRAIN, flag, f"--workdir={run}")
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(ground.cache), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(run / "checkpoints", process)
        yield process


def at_stages(
    ground: Ground,
    moments: Mapping[str, Change | Call],
    faults: Callable[[Ended], list[str]],
    **fault: int,
) -> list[str]:
    """What was wrong where a fault met train.py at each stage, which was then resumed.

    Args:
        ground: where it runs.
        moments: name of a stage -> when the fault comes.
        faults: what is wrong with how the process ended.
        **fault: as `recorder.settings`.
    """
    wrong = []
    for stage, moment in moments.items():
        ended = ground.meet(moment, **fault)
        wrong += [f"{stage}: {found}" for found in faults(ended) + resumed(ground)]
    return wrong


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
    every = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [one for one in every if _stat(one)[1:2] == [str(pid)]]


def alive(pid: int) -> bool:
    """Whether a process runs: it exists and is no zombie."""
    return state_of(pid) not in ("", "Z")


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does, "T" for stopped; "" if there is none."""
    return "".join(_stat(pid)[:1])


def _stat(pid: int) -> list[str]:
    """State, parent and more of a process, as the kernel says them; empty if there is none."""
    try:
        # Behind its name, which may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def orphans(ground: Ground) -> Iterator[Row]:
    """A kill -9 of the parent of workers, of which one is stopped: all end by themselves."""
    with _training(ground, "--config.pool.workers=2") as process:
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


def _faults(ended: Ended) -> list[str]:
    """What is wrong with how train.py or eval.py ended after a signal."""
    found = _how_it_ended(ended, "error: interrupted; to continue: ")
    return found if "--resume" in ended.last else [*found, "no --resume in the last line"]


def _not_killed(ended: Ended) -> list[str]:
    return [] if ended.code == -signal.SIGKILL else [f"exit {ended.code}"]


def _how_it_ended(ended: Ended, last: str) -> list[str]:
    found = [] if ended.code == 130 else [f"exit {ended.code}"]
    found += ["a traceback"] if "Traceback" in ended.said else []
    return found if ended.last.startswith(last) else [*found, f"last line {ended.last!r}"]
