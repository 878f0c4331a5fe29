"""Faults done to runs on purpose, and whether nothing is lost: the table of docs/reliability.md.

python bench/faults.py [--short] [--cache FOLDER] [PART ...]     from the root of the repository

PART: kills power signals space damage workers devices inputs; all of them by default. Each case
begins with a tiny run (SFT, RIPT, evaluation; scripted task), which a fault meets, and which is
then resumed and compared with the unbroken run bit for bit; `inputs` gives bad input to every door.
Exit code 1 where a row is red. Needs Linux and a C compiler; no root.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from torture import devices, flips, inputs, replayed, space, stopping, workers
from torture.ground import Ground, Row, ground
from torture.recorder import has_compiler
from torture.resume import warm

_EVERY = 10**6
_SOME = ("SFT checkpoint", "RL rollout")

Part = Callable[[Ground, bool], Iterator[Row]]


def kills(made: Ground, short: bool) -> Iterator[Row]:
    """A kill -9 before every change of the file system."""
    yield from replayed.kills(made, 20 if short else _EVERY)
    yield from stopping.killed(made, *[_SOME] * short)


def power(made: Ground, short: bool) -> Iterator[Row]:
    """Power cuts, in orders that a disk may keep."""
    yield from replayed.power_cuts(made, 20 if short else 300, 1 if short else 12)


def signals(made: Ground, short: bool) -> Iterator[Row]:
    """Signals, once and twice."""
    yield from stopping.stopped(made, *[_SOME] * short)
    yield from [] if short else stopping.others(made)
    yield from stopping.twice(made)
    yield from stopping.orphans(made)


def no_room(made: Ground, short: bool) -> Iterator[Row]:
    """Full disks and quotas."""
    yield from space.full(made, *[_SOME[:1]] * short)
    yield from space.quota(made, *[(20_000,)] * short)
    if not short:
        yield from space.full_for_others(made)
        yield from space.quota_for_others(made)


def damage(made: Ground, short: bool) -> Iterator[Row]:
    """Damaged files."""
    yield from flips.damaged(made, *[50, 10] * short)
    yield from flips.without_digest(made, *[9] * short)


def simulators(made: Ground, short: bool) -> Iterator[Row]:
    """Workers that die, stand still or starve."""
    yield from workers.attacked(made, [*workers.ATTACKS][:1] if short else None)


def machines(made: Ground, short: bool) -> Iterator[Row]:
    """Other machines."""
    yield from devices.moved(made, *[("two devices",)] * short)


def bad_inputs(made: Ground, short: bool) -> Iterator[Row]:
    """Bad configs, paths, folders, checkpoints, data and observations."""
    yield from inputs.given(made, 10 if short else 1)


PARTS: dict[str, Part] = {
    "kills": kills,
    "power": power,
    "signals": signals,
    "space": no_room,
    "damage": damage,
    "workers": simulators,
    "devices": machines,
    "inputs": bad_inputs,
}


def main() -> int:
    """Prints the table as it grows; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--short", action="store_true", help="a few cases of each kind")
    parser.add_argument("--cache", type=Path, help="folder of compiled programs")
    args = parser.parse_args()
    if not has_compiler():
        sys.stderr.write("error: expected a C compiler (cc) on the PATH\n")
        return 2
    sys.stdout.write("| fault | cases | wrong | |\n|---|---|---|---|\n")
    red = 0
    with ground(args.cache) as made, warm():
        for name in args.parts or PARTS:
            start = time.monotonic()
            for row in PARTS[name](made, args.short):
                red += bool(row.wrong)
                _print(row)
            sys.stderr.write(f"{name}: {time.monotonic() - start:.0f} s\n")
    return 1 if red else 0


def _print(row: Row) -> None:
    wrong = len(row.wrong) or "0"
    sys.stdout.write(f"| {row.fault} | {row.cases} | {wrong} | {row.remark} |\n")
    sys.stdout.flush()
    for line in row.wrong[:20]:
        sys.stderr.write(f"  {row.fault}: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
