"""Kinds of values that settings have."""

import pytest

from pi0_jax.convert.settings.kinds import (
    BOOL,
    COUNT,
    NUMBER,
    OF_WHOLES,
    SIDES,
    TEXT,
    TEXTS,
    WHOLE,
    Kind,
    either,
    misfits,
)

BOTH = either(TEXT, TEXTS)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (WHOLE, [1, 10**7], [0, -1, 1.0, "1", True, 10**7 + 1]),
        (COUNT, [0, 3], [-1, False, 0.0]),
        (NUMBER, [1, -1.5], [float("nan"), float("inf"), True, "1"]),
        (BOOL, [True, False], [0, 1, "false", []]),
        (TEXTS, [[], ["a"]], ["a", [1], {"a": "b"}]),
        (OF_WHOLES, [{}, {"a": 1}], [[], [1], {"a": 0}]),
        (SIDES, [[224, 224]], [[224], [0, 0], 224, [1, 2, 3]]),
        (BOTH, ["a", ["a"]], [1, [1]]),
    ],
)
def test_what_fits(kind: Kind, good: list[object], bad: list[object]) -> None:
    assert all(map(kind.fits, good)) and not any(map(kind.fits, bad))


def test_a_misfit_is_named_with_its_place_and_what_is_not_set_is_none() -> None:
    kinds = {"a": WHOLE, "b": BOTH, "c": BOOL, "d": TEXT}
    assert misfits({"a": "3", "b": 1, "c": None}, kinds, "part.") == [
        "part.a is '3', expected a whole number above 0",
        "part.b is 1, expected a text or a list of texts",
    ]
