"""Which run a checkpoint is of: two run folders that somebody merged are no run."""

import uuid
from collections.abc import Iterator
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.training.checkpoint import RUN

_CHECKPOINTS = ("checkpoints/[0-9]*", "baselines/*/checkpoints/[0-9]*")


def new_identity() -> str:
    """A name that no other run has; a copy of a run folder is the same run."""
    return uuid.uuid4().hex


def check_own(path: Path, identity: str) -> None:
    """Checks that the checkpoints of a run folder are its own.

    Args:
        path: the run folder.
        identity: of the run; "" for one that was begun before runs had names, which has all.

    Raises:
        InputError: a checkpoint is of another run.
    """
    for checkpoint, other in _named(path):
        if identity and other != identity:
            raise InputError(
                f"{checkpoint}: is a checkpoint of another run ({other}) than --workdir {path} "
                f"({identity}); take it out of this folder, in which two runs were mixed"
            )


def _named(path: Path) -> Iterator[tuple[Path, str]]:
    """Each checkpoint that names its run; `recover` speaks of those that cannot be read."""
    for pattern in _CHECKPOINTS:
        for checkpoint in sorted(path.glob(pattern)):
            try:
                other = read_object(checkpoint / "host.json").get(RUN)
            except (InputError, OSError):
                continue
            if other:
                yield checkpoint, str(other)
