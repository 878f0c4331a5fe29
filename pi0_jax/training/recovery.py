"""Which checkpoint training goes on from, where that is not simply the newest."""

import itertools
from collections.abc import Callable
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.digests import check_digests
from pi0_jax.io.durable import rename
from pi0_jax.io.orbax_tree import load_shapes
from pi0_jax.listing import below
from pi0_jax.training.checkpoint import host_of, saved, step_of, steps

_DAMAGED, _ASIDE = ".damaged", ".aside"


def recover(folder: Path, phase: str, say: Callable[[str], None]) -> None:
    """Sets newest checkpoints of a phase aside until one can be read, so that it is used.

    Args:
        folder: where all checkpoints of one run or method lie.
        phase: "sft" or "rl"; one of another phase ends the search, as it will not be read.
        say: takes a warning of one line for each that is set aside.
    """
    talk.first(lambda: _recover(folder, phase, say))


def _recover(folder: Path, phase: str, say: Callable[[str], None]) -> None:
    for path in reversed(saved(folder)):
        try:
            if host_of(path).get("phase") != phase:
                return
            check_digests(path)
            load_shapes(path / "state")
            return
        except InputError as error:
            aside = _set_aside(path, _DAMAGED)
            left = saved(folder)
            use = f"checkpoint {left[-1].name}" if left else "the beginning"
            say(
                f"warning: {error}; it is now {aside.name}, and training goes on from {use}: what "
                "came after that is done again"
            )


def go_back(run: Path, step: int, *, sft_ended: bool = False, rl_ended: bool = False) -> list[Path]:
    """Sets the checkpoints after a step aside, so that training goes on from there.

    Of a run with several folders of checkpoints it is the one that was written last.

    Args:
        run: the run folder.
        step: number of the optimizer step.
        sft_ended: the base policy is finished, so no checkpoint of its training may be taken.
        rl_ended: all training has ended, and there are results of it.

    Returns:
        What was set aside, under its new names.

    Raises:
        InputError: there is no checkpoint of this step, or what it belongs to has ended.
    """
    folders = [path for path in below(run, "checkpoints") if saved(path)]
    if not folders:
        raise InputError(f"--from {step}: {run} has no checkpoint; leave --from out")
    folder = max(folders, key=lambda path: max(one.stat().st_mtime_ns for one in saved(path)))
    if step not in steps(folder):
        raise InputError(f"--from {step}: {folder} has checkpoints of the steps {steps(folder)}")
    phase = host_of(next(path for path in saved(folder) if step_of(path) == step)).get("phase")
    if rl_ended or (sft_ended and phase == "sft" and folder.parent == run):
        raise InputError(
            f"--from {step}: training from there has ended, and its results are in {run}: start a "
            "new run"
        )
    return [_set_aside(path, _ASIDE) for path in saved(folder) if step_of(path) > step]


def _set_aside(path: Path, ending: str) -> Path:
    """Gives a checkpoint a name that no training reads: the first that nothing has."""
    names = (path.with_name(f"{path.name}{ending}.{number}") for number in itertools.count(1))
    first = path.with_name(f"{path.name}{ending}")
    aside = next(name for name in itertools.chain([first], names) if not name.exists())
    rename(path, aside)
    return aside
