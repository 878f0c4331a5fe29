"""What is wrong or strange about a data set, as a list: all of it at once, each in one line."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_jax.errors import InputError

ROWS, TIMES, PICTURES = "rows", "times", "pictures"
"""Nothing can be learnt from such data."""
WIDTHS = "widths"
"""Nor from states and actions of another number of values than the robot's."""
LIMITS, GRIPPER, UNITS, NAMES, TASKS = "limits", "gripper", "units", "names", "tasks"
"""Data of another convention, most likely; who knows better goes on."""
STILL, PLACE, RATE, SPELLING, OUTCOME = "still", "place", "rate", "spelling", "outcome"
"""To know, and no reason to stop."""

WAIVABLE = (LIMITS, GRIPPER, UNITS, NAMES, TASKS)
NOTES = (STILL, PLACE, RATE, SPELLING, OUTCOME)


@dataclass(frozen=True)
class Finding:
    """One thing.

    Attributes:
        kind: one of the names of this module.
        text: what and where, as one sentence without a full stop.
    """

    kind: str
    text: str

    @property
    def stops(self) -> bool:
        """Whether it is more than a note."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        """One line."""
        return f"{'note' if not self.stops else 'error'} ({self.kind}): {self.text}"


def refuse(findings: Sequence[Finding], path: Path, allowed: Collection[str] = ()) -> None:
    """Checks that nothing was found that stops.

    Args:
        findings: of one folder.
        path: the folder.
        allowed: kinds of `WAIVABLE` to go on with.

    Raises:
        InputError: something was found; the first of it, and how many more there are.
    """
    found = [one for one in findings if one.stops and one.kind not in allowed]
    if not found:
        return
    first = found[0]
    text = first.text if str(path) in first.text else f"{path}: {first.text}"
    if len(found) > 1:
        text += f"; and {len(found) - 1} more, which `python -m pi0_jax.data.check {path}` lists"
    kinds = tuple(dict.fromkeys(one.kind for one in found))
    if all(kind in WAIVABLE for kind in kinds):
        text += f'; to go on all the same: --config.demonstrations.allow="{kinds!r}"'
    raise InputError(text)


def check_allowed(section: str, allowed: Sequence[str]) -> None:
    """Checks names of kinds that a user lets pass.

    Raises:
        InputError: one is no kind that can be let pass.
    """
    for kind in allowed:
        if kind not in WAIVABLE:
            raise InputError(f"{section} takes {', '.join(WAIVABLE)}, got {kind!r}")
