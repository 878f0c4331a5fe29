"""Going on from an earlier checkpoint (--from), at other rates.

What has ended stays as it is: a finished base policy, and every method that has results.
"""

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.listing import below, entries
from pi0_jax.run.methods import BASE, CHECKPOINTS, EVALUATIONS, RIPT, method_of
from pi0_jax.training.checkpoint import host_of, saved, step_of, steps
from pi0_jax.training.recovery import set_aside

# Other keys of an optimizer say what a checkpoint holds; so do some `rules` (`same_config.py`).
_RATES = (
    *("learning_rate", "warmup_steps", "final_fraction", "b1", "b2", "weight_decay", "clip_norm"),
    "rules",
)

# What follows the method in the names of an evaluation: `Guidance.suffix`, and an ending. Not what
# follows "ript" in those of a method "ript_2".
_OF_POINT = re.compile(r"_[\d.e+-]+(_[a-z]+)?\.(parts|npz|jsonl)")


@dataclass(frozen=True)
class Point:
    """Where training goes on.

    Attributes:
        folder: the checkpoints of a method that has not ended.
        step: number of the optimizer step of one of them.
        method: whose they are; the base's and RIPT's lie together.
    """

    folder: Path
    step: int
    method: str


def find_point(run: Path, step: int, done: Collection[str]) -> Point:
    """The checkpoint of a step, of the method that is trained.

    Of several folders of checkpoints it is the one that was written last. Supervised training that
    has ended can be gone back to at its last checkpoint alone: what follows it begins anew.

    Args:
        run: the run folder.
        step: number of the optimizer step.
        done: methods that have results.

    Raises:
        InputError: there is no checkpoint of this step, or what it belongs to has ended.
    """
    every = [path for path in below(run, CHECKPOINTS) if saved(path)]
    if not every:
        raise InputError(f"--from {step}: {run} has no checkpoint; leave --from out")
    ended = InputError(
        f"--from {step}: training from there has ended, and its results are in {run}: start a "
        "new run"
    )
    folders = [path for path in every if method_of(run, path) not in done]
    if not folders or RIPT in done:  # the last of all methods
        raise ended
    folder = max(folders, key=lambda path: max(one.stat().st_mtime_ns for one in saved(path)))
    if step not in steps(folder):
        raise InputError(f"--from {step}: {folder} has checkpoints of the steps {steps(folder)}")
    if method_of(run, folder) != RIPT:
        return Point(folder, step, method_of(run, folder))
    phases = [(host_of(path).get("phase"), step_of(path)) for path in saved(folder)]
    # Of a given checkpoint that nothing was trained of, the run has no base of its own.
    if not (run / BASE).exists() and all(phase == "sft" for phase, _ in phases):
        return Point(folder, step, BASE)
    if any(phase == "sft" and step < later for phase, later in phases):
        raise ended
    return Point(folder, step, RIPT)


def free_keys(point: Point, done: Collection[str], methods: Collection[str]) -> tuple[str, ...]:
    """Keys that may change: rates of what is trained from the point on.

    Args:
        point: where training goes on.
        done: methods that have results.
        methods: names of the run's baselines.
    """
    of_base = ("sft",) if point.method == BASE else ()
    left = (f"baselines.{name}" for name in methods if name not in done)
    return tuple(f"{name}.optimizer.{key}" for name in (*of_base, "rl", *left) for key in _RATES)


def go_back(run: Path, point: Point) -> list[Path]:
    """Sets aside what came after a point; returns its new names.

    Rollouts that an interruption kept are of parameters that will be others, and are removed.
    """
    later = [path for path in saved(point.folder) if step_of(path) > point.step]
    # Episodes of an evaluation that was interrupted: those of another policy would be taken for it.
    found = entries(run / "episodes" / EVALUATIONS, f"{point.method}_*")
    judged = [path for path in found if _OF_POINT.fullmatch(path.name, len(point.method))]
    for kept in (run / "episodes").glob("*/[0-9]*.parts"):
        shutil.rmtree(kept)
    return [set_aside(path) for path in (*later, *judged)]
