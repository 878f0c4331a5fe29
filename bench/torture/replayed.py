"""Parts that replay recorded changes: kills of train.py, eval.py and conversions; power cuts."""

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_jax.convert.commands import flax_to_torch, torch_to_flax
from pi0_jax.errors import InputError, first_line
from torture import ground as grounds
from torture import power, resume
from torture.disk import POWER_CUTS, Order, cuts, read_tree
from torture.ground import RUN, Ground, Recorded, Row
from torture.kills import describe, resume_all, spread, unread
from torture.recorder import Kind
from torture.tiny_run import TRAIN

_OUT = "out"  # of an evaluation or a conversion
Again = Callable[[Path], str]


def kills(ground: Ground, most: int) -> Iterator[Row]:
    """A kill -9 before every change of train.py, eval.py, and a conversion."""
    again = grounds.train_again
    yield _kills(ground, "train.py", ground.run, again, ground.wanted, RUN, most)
    policy = ground.wanted / RUN / "policy"
    words = ("eval.py", *TRAIN, f"--checkpoint={policy}", f"--workdir={ground.root / _OUT}")
    found = grounds.record(ground.folder, ground.library, ground.cache, words)
    yield _kills(ground, "eval.py", found, _evaluate_again(policy), _kept(ground), _OUT, most)
    torch = ground.folder / "torch"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        flax_to_torch.main([str(policy), str(torch), "--layout", "openpi"])
    for name, flags in (("", ()), (" over an earlier output", ("--overwrite",))):
        words = (str(torch), str(ground.root / _OUT), *flags)
        before = read_tree(ground.root) if flags else None
        module = ("-m", "convert.torch_to_flax", *words)
        found = grounds.record(ground.folder, ground.library, ground.cache, module, before)
        row = f"convert.torch_to_flax{name}"
        yield _kills(ground, row, found, _convert_again(torch), _kept(ground), _OUT, most)


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
    ground: Ground, name: str, run: Recorded, again: Again, wanted: Path, compared: str, most: int
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


def _kept(ground: Ground) -> Path:
    """A copy of the root, to compare with."""
    kept = ground.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(ground.root, kept)
    return kept


def _evaluate_again(policy: Path) -> Again:
    def again(root: Path) -> str:
        run = root / _OUT
        begun = (run / ".lock").exists() or (run / "config.json").exists()
        return resume.evaluate(run, policy, *TRAIN, *["--resume"] * begun)

    return again


def _convert_again(source: Path) -> Again:
    def again(root: Path) -> str:
        done = root / _OUT
        words = [str(source), str(done), *["--overwrite"] * done.exists()]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = torch_to_flax.main(words)
            except (InputError, OSError) as error:
                return first_line(error)
        return "" if code == 0 else said.getvalue()

    return again
