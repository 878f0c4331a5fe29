"""The checks that every config section shares."""

import math
from types import SimpleNamespace

import pytest

from pi0_jax.errors import InputError, check_choices, check_minima, first_line, some


def test_the_minimum_itself_is_allowed():
    check_minima("rl", SimpleNamespace(steps=1, alpha=0.0), {"steps": 1, "alpha": 0})


@pytest.mark.parametrize("value", [0, -1, 0.999, math.nan, math.inf, "two", None])
def test_what_is_below_or_no_number_is_named(value):
    with pytest.raises(InputError) as raised:
        check_minima("rl", SimpleNamespace(steps=value), {"steps": 1})
    assert str(raised.value) == f"rl.steps must be at least 1, got {value!r}"


def test_a_choice():
    allowed = {"kind": ("a", "b")}
    check_choices("rl", SimpleNamespace(kind="b"), allowed)
    with pytest.raises(InputError) as raised:
        check_choices("rl", SimpleNamespace(kind="c"), allowed)
    assert str(raised.value) == "rl.kind must be one of 'a', 'b', got 'c'"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("disk full"), "disk full"),
        (RuntimeError("\n  lost\nTraceback ..."), "lost"),
        (KeyError("w"), "'w'"),
        (EOFError(), "EOFError"),
        (ValueError("  \n"), "ValueError"),
    ],
)
def test_an_exception_is_one_line_and_never_an_empty_one(error, line):
    assert first_line(error) == line


def test_some_names_of_many():
    assert some(["a", "b", "c"], 3) == "a, b, c"
    assert some(["a", "b", "c", "d"], 2) == "a, b and 2 more"
