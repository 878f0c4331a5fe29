"""Ranges of settings, each written beside its default: `b1: Annotated[float, "[0, 1)"] = 0.9`.

An interval is written as in mathematics: "[" and "]" hold their end, "(" and ")" do not.
"""

import functools
import math
import re
from typing import get_type_hints

from pi0_jax.errors import InputError

_INTERVAL = re.compile(r"([\[(])(\S+), (\S+)([\])])")


def check_ranges(section: str, settings: object) -> None:
    """Checks every field of a dataclass whose type carries an interval.

    A field of several numbers is checked number by number. True and False are no numbers, and
    neither are NaN and infinity.

    Args:
        section: of the config, for the message; "" for the whole of it.
        settings: the dataclass.

    Raises:
        InputError: the first field that is out of its range; with key, range and value.
    """
    for name, interval, whole in _intervals(type(settings)):
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not _within(number, interval, whole=whole):
                key = f"{section}.{name}" if section else name
                kind = "a whole number" if whole else "a number"
                raise InputError(f"{key} must be {kind} in {interval}, got {value!r}")


# A server makes a value of settings per call of the policy.
@functools.cache
def _intervals(kind: type) -> tuple[tuple[str, str, bool], ...]:
    """Name, interval and whether it is of whole numbers, of every field that has an interval."""
    hints = get_type_hints(kind, include_extras=True).items()
    return tuple(
        (name, interval, hint.__origin__ is int)
        for name, hint in hints
        for interval in getattr(hint, "__metadata__", ())
    )


def _within(number: object, interval: str, *, whole: bool) -> bool:
    if isinstance(number, bool) or not isinstance(number, int if whole else int | float):
        return False
    match = _INTERVAL.fullmatch(interval)
    assert match, interval
    low, high = float(match[2]), float(match[3])
    above = number >= low if match[1] == "[" else number > low
    below = number <= high if match[4] == "]" else number < high
    # A whole number may be too large for a float to hold; comparing it needs none.
    return above and below and (isinstance(number, int) or math.isfinite(number))
