"""Every setting of a foreign file is read, harmless, of a known value, or an error."""

import pytest

from pi0_jax.convert.settings.kinds import WHOLE
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.errors import InputError

KNOWN = Known(
    read={"size": WHOLE},
    needed=("size",),
    fixed={"act": ("gelu", None), "bias": (False,)},
    harmless={"tag": "x"},
)


def test_what_is_known_passes() -> None:
    assert problems({"size": 3, "act": None, "bias": False, "tag": [1]}, KNOWN) == []


def test_each_problem_is_named_with_its_place() -> None:
    assert problems({"act": "relu", "bias": 0, "twist": 2, "size": "3"}, KNOWN, "part.") == [
        "part.size is '3', expected a whole number above 0",
        "part.act is 'relu', pi0_jax computes 'gelu'",
        "part.bias is 0, pi0_jax computes False",
        "part.twist (2) is unknown",
    ]


def test_what_is_needed_is_there_and_is_not_null() -> None:
    assert problems({}, KNOWN) == problems({"size": None}, KNOWN) == ["size is missing"]


def test_one_error_has_them_all() -> None:
    fail("file", [])
    with pytest.raises(InputError, match=r"file: settings .* does: a; b; take out"):
        fail("file", ["a", "b"])
