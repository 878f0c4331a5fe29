"""The checks that every config section shares."""

from types import SimpleNamespace

import pytest

from pi0_jax.errors import InputError, check_choices, first_line, some


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
