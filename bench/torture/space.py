"""No room: a full disk, a quota, an error of the device, in the middle of real processes."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

from torture.disk import read_tree
from torture.ground import RUN, Ended, Ground, Row
from torture.jobs import Job, conversions, evaluation
from torture.moments import CHANGES, Change
from torture.recorder import Kind
from torture.stopping import at_stages, resumed
from torture.tiny_run import ROOT, TRAIN, command, environment

_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# Sets the limit, then becomes the command.
_LIMITED = """
import os, resource, sys
size, *words = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
os.execv(words[0], words)
"""
_QUOTAS = (300_000, 20_000, 1_000)  # largest file [bytes]


def full(ground: Ground, stages: Iterable[str] = CHANGES) -> Iterator[Row]:
    """From a change on every write fails; then the same command again, with room."""
    for number in _ERRORS:
        wrong = at_stages(
            ground, {stage: CHANGES[stage] for stage in stages}, _faults, errno=number
        )
        row = f"{os.strerror(number)}, at {len([*stages])} stages of train.py"
        yield Row(row, len([*stages]), wrong)


def full_for_others(ground: Ground) -> Iterator[Row]:
    """The same for eval.py, and for conversions, which leave what was there as it was."""
    for job in (evaluation(ground), *conversions(ground)):
        wrong, moments = [], _spread(job)
        for moment in moments:
            for number in _ERRORS:
                ended = job.meet(ground, moment, errno=number)
                found = _faults(ended)
                if job.name != "eval.py" and read_tree(ground.root) != (job.run.before or {}):
                    found.append("leaves files, or lost what was there")
                found += job.repeated(ground)
                wrong += [f"{moment.part}: {os.strerror(number)}: {fault}" for fault in found]
        yield Row(f"no space, quota, error of the device in {job.name}", 3 * len(moments), wrong)


def quota(ground: Ground, sizes: tuple[int, ...] = _QUOTAS) -> Iterator[Row]:
    """RLIMIT_FSIZE: a file may not grow beyond a size."""
    wrong = []
    for size in sizes:
        ground.begin()
        ended = _limited(ground, size, "train.py", *TRAIN, f"--workdir={ground.root / RUN}")
        wrong += [f"{size} bytes: {fault}" for fault in _faults(ended) + resumed(ground)]
    yield Row("RLIMIT_FSIZE of train.py", len(sizes), wrong, f"{', '.join(map(str, sizes))} bytes")


def quota_for_others(ground: Ground, sizes: tuple[int, ...] = (20_000, 1_000)) -> Iterator[Row]:
    """The same for eval.py and conversions."""
    wrong, made = [], (evaluation(ground), *conversions(ground))
    for job in made:
        for size in sizes:
            ground.begin(job.run.before)
            ended = _limited(ground, size, *job.words)
            faults = _faults(ended) + job.repeated(ground)
            wrong += [f"{job.name}: {size} bytes: {fault}" for fault in faults]
    yield Row("RLIMIT_FSIZE of eval.py and conversions", len(made) * len(sizes), wrong)


def _limited(ground: Ground, size: int, *words: str) -> Ended:
    """Runs a command that can write no larger file."""
    limited = [sys.executable, "-c", _LIMITED, str(size), *command(*words)]
    # The cache of programs has larger files.
    env = environment(ground.cache) | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    found = subprocess.run(limited, cwd=ROOT, env=env, capture_output=True, text=True)
    return Ended(found.returncode, found.stderr)


def _spread(job: Job, count: int = 5) -> list[Change]:
    """Some of the changes that make the disk fuller, from the first to the last."""
    grows = (Kind.CREATE, Kind.WRITE, Kind.MKDIR)
    # TensorStore draws the names of its files of data.
    found = {
        change.path.partition("/d/")[0] + "/d/" * ("/d/" in change.path): change.kind
        for change in job.run.changes
        if change.kind in grows
    }
    moments = [Change(path, kind) for path, kind in found.items()]
    return [moments[i * (len(moments) - 1) // (count - 1)] for i in range(count)]


def _faults(ended: Ended) -> list[str]:
    """What is wrong with how a process told that there is no room."""
    found = [] if ended.code in (1, 2) else [f"exit {ended.code}"]
    found += ["a traceback"] if "Traceback" in ended.said else []
    return found if ended.last.startswith("error: ") else [*found, f"last line {ended.last!r}"]
