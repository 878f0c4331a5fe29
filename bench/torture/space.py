"""No room: a full disk, a quota, an error of the device, in the middle of real processes."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator

from torture.ground import RUN, Ended, Ground, Row
from torture.stopping import STAGES, resumed
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


def full(ground: Ground, stages: tuple[str, ...] = tuple(STAGES)) -> Iterator[Row]:
    """From a change on every write fails; then the same command again, with room."""
    for number in _ERRORS:
        wrong = []
        for stage in stages:
            ground.begin()
            at = ground.number_of(*STAGES[stage])
            ended = ground.train(**ground.recording(full_at=at, errno=number))
            wrong += [f"{stage}: {fault}" for fault in _faults(ended) + resumed(ground)]
        yield Row(f"{os.strerror(number)}, at {len(stages)} stages", len(stages), wrong)


def quota(ground: Ground, sizes: tuple[int, ...] = _QUOTAS) -> Iterator[Row]:
    """RLIMIT_FSIZE: a file may not grow beyond a size."""
    wrong = []
    for size in sizes:
        ground.begin()
        words = command("train.py", *TRAIN, f"--workdir={ground.root / RUN}")
        limited = [sys.executable, "-c", _LIMITED, str(size), *words]
        # The cache of programs has larger files.
        env = environment(ground.cache) | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        found = subprocess.run(limited, cwd=ROOT, env=env, capture_output=True, text=True)
        ended = Ended(found.returncode, found.stderr)
        wrong += [f"{size} bytes: {fault}" for fault in _faults(ended) + resumed(ground)]
    yield Row("RLIMIT_FSIZE", len(sizes), wrong, f"{', '.join(map(str, sizes))} bytes")


def _faults(ended: Ended) -> list[str]:
    """What is wrong with how a process told that there is no room."""
    found = [] if ended.code in (1, 2) else [f"exit {ended.code}"]
    found += ["a traceback"] if "Traceback" in ended.said else []
    return found if ended.last.startswith("error: ") else [*found, f"last line {ended.last!r}"]
