"""Settings from plain values and back, on dataclasses of three fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from pi0_jax.errors import InputError
from pi0_jax.plain_values import build, defaults, dotted, dotted_values, nearest, replaced, tuples


@dataclass(frozen=True)
class Inner:
    """A section."""

    rate: float
    steps: int = 3
    words: tuple[str, ...] = ("a",)
    pair: tuple[float, int] = (1.0, 2)


@dataclass(frozen=True)
class Outer:
    """A section with a section in it."""

    inner: Inner
    on: bool = False
    name: str = "x"
    stride: int | str = "last"
    rest: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Inner, ...] = ()
    limit: float | None = None


def test_defaults_are_those_of_the_fields_and_what_has_none_is_left_out():
    assert defaults(Outer) == {
        "inner": {"steps": 3, "words": ("a",), "pair": (1.0, 2)},
        "on": False,
        "name": "x",
        "stride": "last",
        "rest": {},
        "parts": (),
        "limit": None,
    }


def test_plain_values_become_a_dataclass_with_the_dataclasses_in_it():
    assert build("", Outer, {"inner": {"rate": 0.5}}) == Outer(Inner(0.5))
    values = {"inner": {"rate": 2, "words": ["b", "c"]}, "stride": 4, "rest": {"k": 1}}
    found = build("", Outer, values)
    assert found == Outer(Inner(2.0, words=("b", "c")), stride=4, rest={"k": 1})
    assert type(found.inner.rate) is float
    assert build("", Outer, {"inner": Inner(0.5)}) == Outer(Inner(0.5))


def test_parts_of_a_list_and_values_that_may_be_none_are_built_too():
    values = {"inner": {"rate": 1}, "parts": [{"rate": 2}, {"rate": 3}], "limit": 4}
    assert build("", Outer, values) == Outer(Inner(1.0), parts=(Inner(2.0), Inner(3.0)), limit=4.0)
    assert build("", Outer, values | {"limit": None}).limit is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "config key rl.inner is missing; set it"),
        ({"inner": {}}, "config key rl.inner.rate is missing; set it"),
        ({"inner": {"rate": 1.0, "stesp": 1}}, "key rl.inner.stesp; .* is rl.inner.steps"),
        ({"inner": 3}, "rl.inner is a section of several keys, got 3"),
        ({"inner": {"rate": "low"}}, "rl.inner.rate must be a number, got 'low'"),
        ({"inner": {"rate": 1.0, "steps": 1.5}}, "rl.inner.steps must be a whole number, got 1.5"),
        ({"inner": {"rate": 1.0, "steps": True}}, "rl.inner.steps must be a whole number, got T"),
        ({"inner": {"rate": 1.0, "words": "a"}}, "rl.inner.words must be a list, got 'a'"),
        ({"inner": {"rate": 1.0, "words": ["a", 1]}}, "rl.inner.words.1 must be a word, got 1"),
        ({"inner": {"rate": 1.0, "pair": [1, 2, 3]}}, "rl.inner.pair must be 2 values, got"),
        ({"inner": {"rate": 1.0, "pair": ["x", 2]}}, "rl.inner.pair.0 must be a number, got 'x'"),
        ({"inner": {"rate": 1.0}, "parts": [3]}, "rl.parts.0 is a section of several keys, got 3"),
        ({"inner": {"rate": 1.0}, "parts": [{}]}, "rl.parts.0.rate is missing"),
        ({"inner": {"rate": 1.0}, "limit": "x"}, "rl.limit must be a number, got 'x'"),
        ({"inner": {"rate": 1.0}, "on": 1}, "rl.on must be True or False, got 1"),
        ({"inner": {"rate": 1.0}, "name": 1}, "rl.name must be a word, got 1"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        build("rl", Outer, values)


def test_keys_are_replaced_section_by_section():
    values = {"a": 1, "part": {"b": 2, "c": 3}}
    assert replaced(values, {"part": {"b": 9}}) == {"a": 1, "part": {"b": 9, "c": 3}}
    assert replaced(values, {"a": 5, "new": 6}) == {"a": 5, "part": {"b": 2, "c": 3}, "new": 6}
    assert values == {"a": 1, "part": {"b": 2, "c": 3}}
    for changes in ({"a": {"x": 1}}, {"part": 3}):
        with pytest.raises(InputError, match="is a section of several keys, or is not"):
            replaced(values, changes)


def test_a_whole_number_replaces_a_fraction_as_one():
    assert repr(replaced({"a": 1.0, "b": 1}, {"a": 2, "b": 3})) == "{'a': 2.0, 'b': 3}"


def test_names_of_nested_values():
    assert list(dotted({"a": 1, "b": {"c": 2}})) == ["a", "b", "b.c"]
    assert dotted_values({"a": 1, "b": {"c": 2}}) == {"a": 1, "b.c": 2}
    assert nearest("stesp", ["rate", "steps"]) == "steps"
    assert tuples({"a": [1, [2]], "b": "x"}) == {"a": (1, (2,)), "b": "x"}
