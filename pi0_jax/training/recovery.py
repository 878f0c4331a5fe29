"""Which checkpoint training goes on from, where that is not simply the newest."""

import itertools
from collections.abc import Callable
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.digests import check_digests
from pi0_jax.io.durable import rename
from pi0_jax.io.orbax_tree import load_shapes
from pi0_jax.training.checkpoint import host_of, saved

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
            aside = set_aside(path, _DAMAGED)
            left = saved(folder)
            use = f"checkpoint {left[-1].name}" if left else "the beginning"
            say(
                f"warning: {error}; it is now {aside.name}, and training goes on from {use}: what "
                "came after that is done again"
            )


def set_aside(path: Path, ending: str = _ASIDE) -> Path:
    """Gives a checkpoint, or episodes, a name that nothing reads: the first that nothing has."""
    names = (path.with_name(f"{path.name}{ending}.{number}") for number in itertools.count(1))
    first = path.with_name(f"{path.name}{ending}")
    aside = next(name for name in itertools.chain([first], names) if not name.exists())
    rename(path, aside)
    return aside
