"""Parts that replay recorded changes: kills of train.py, eval.py and conversions; power cuts."""

import random
from collections.abc import Iterator
from pathlib import Path

from torture import ground as grounds
from torture import jobs, power
from torture.disk import POWER_CUTS, Order, cuts
from torture.ground import RUN, Ground, Recorded, Row
from torture.kills import describe, resume_all, spread, unread
from torture.recorder import Kind


def kills(ground: Ground, most: int) -> Iterator[Row]:
    """A kill -9 before every change of train.py, eval.py, and conversions."""
    again = grounds.train_again
    yield _kills(ground, "train.py", ground.run, again, ground.wanted, RUN, most)
    for job in (jobs.evaluation(ground), *jobs.conversions(ground)):
        yield _kills(ground, job.name, job.run, job.again, job.wanted, jobs.OUT, most)


def power_cuts(ground: Ground, most: int, resumed: int) -> Iterator[Row]:
    """Power cuts of train.py: all states are opened, a sample is resumed."""
    run, root = ground.run, ground.root
    whole = cuts(root, run.changes, Order.ALL, unread)
    finished = power.contents(whole)
    config = power.stored_config(run.after, RUN)
    checker = power.Checker(root, RUN, config)
    for order in POWER_CUTS:
        found = cuts(root, run.changes, order, unread)
        chosen = spread(found, most)
        wrong = [
            f"{describe(root, run.changes, cut)}: {fault}"
            for cut in chosen
            for fault in checker.check(cut, finished)[:1]
        ]
        # Others in each order.
        sample = random.Random(order.name).sample(found, min(resumed, len(found)))
        ended = resume_all(sample, root, grounds.train_again, ground.wanted, RUN)
        wrong += [f"{cut.number} resumed: {fault}" for cut, faults in ended for fault in faults[:1]]
        moments = sum(cut.alike for cut in found)
        remark = f"{moments} moments, {len(sample)} resumed to the end"
        yield Row(f"power cut: {order.value}", len(chosen), wrong, remark)
    yield _bad_writer(ground, finished, checker)


def _bad_writer(ground: Ground, finished: dict[str, set[bytes]], checker: power.Checker) -> Row:
    """The simulator itself: the same run without a single fsync must be found bad."""
    without = [change for change in ground.run.changes if change.kind is not Kind.SYNC]
    found = cuts(ground.root, without, Order.NAMES_FIRST, unread)
    chosen = spread([cut for cut in found if f"{RUN}/config.json" in cut.whole], 20)
    bad = [cut for cut in chosen if checker.check(cut, finished)]
    wrong = [] if len(bad) == len(chosen) else [f"only {len(bad)} were found bad"]
    return Row("the same run as if it never waited (must be found bad)", len(chosen), wrong)


def _kills(
    ground: Ground,
    name: str,
    run: Recorded,
    again: jobs.Again,
    wanted: Path,
    compared: str,
    most: int,
) -> Row:
    found = cuts(ground.root, run.changes, Order.ALL, unread, run.before)
    chosen = spread(found, most)
    ended = resume_all(chosen, ground.root, again, wanted, compared)
    wrong = [
        f"before {describe(ground.root, run.changes, cut)}: {fault}"
        for cut, faults in ended
        for fault in faults[:1]
    ]
    moments = sum(cut.alike for cut in found)
    return Row(f"kill -9 of {name}", len(chosen), wrong, f"{moments} moments, {len(found)} states")
