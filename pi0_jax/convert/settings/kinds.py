"""Kinds of values that settings have: what fits, and how a message calls it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_MOST = 10**7  # of a count or a size; no pi0 has one that is nearly as large


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        text: what a message expects.
        fits: whether a value is of this kind.
    """

    text: str
    fits: Callable[[Any], bool]


def _is_whole(value: Any, least: int = 1) -> bool:
    # A bool is an int to Python, but not to a person.
    return type(value) is int and least <= value <= _MOST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _all(kind: type, fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether something is a list, or an object, whose values all fit."""

    def check(value: Any) -> bool:
        """The values of one setting."""
        parts = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind) and all(map(fits, parts))

    return check


WHOLE = Kind("a whole number above 0", _is_whole)
COUNT = Kind("a whole number, 0 or more", lambda value: _is_whole(value, 0))
NUMBER = Kind("a finite number", lambda value: type(value) in (int, float) and math.isfinite(value))
BOOL = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", _is_text)
TEXTS = Kind("a list of texts", _all(list, _is_text))
OBJECT = Kind("an object {...}", lambda value: isinstance(value, dict))
OBJECTS = Kind("a list of objects {...}", _all(list, OBJECT.fits))
OF_OBJECTS = Kind("an object of objects {...}", _all(dict, OBJECT.fits))
OF_TEXTS = Kind("an object of texts", _all(dict, _is_text))
OF_WHOLES = Kind("an object of whole numbers above 0", _all(dict, _is_whole))
NUMBERS = Kind("a list of finite numbers", _all(list, NUMBER.fits))
OF_NUMBERS = Kind("an object of finite numbers", _all(dict, NUMBER.fits))
COUNTS = Kind("a list of whole numbers, 0 or more", _all(list, COUNT.fits))
SHAPE = Kind("a list of whole numbers above 0", _all(list, _is_whole))
SIDES = Kind("[height, width]", lambda value: SHAPE.fits(value) and len(value) == 2)


def either(*kinds: Kind) -> Kind:
    """A value of one of several kinds."""
    text = " or ".join(kind.text for kind in kinds)
    return Kind(text, lambda value: any(kind.fits(value) for kind in kinds))


def misfits(values: Mapping[str, Any], kinds: Mapping[str, Kind], part: str = "") -> list[str]:
    """Settings of another kind, one text each; one that is null is not set.

    Args:
        values: setting to its value.
        kinds: setting to its kind.
        part: where in the file they stand, as a prefix such as "dit_config.".
    """
    return [
        f"{part}{name} is {value!r:.40}, expected {kind.text}"
        for name, kind in kinds.items()
        if (value := values.get(name)) is not None and not kind.fits(value)
    ]
