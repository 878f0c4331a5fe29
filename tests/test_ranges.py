"""Values have ranges: a config is right, or one line names key, range and value."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Annotated, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from pi0_jax import ranges
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import TrainSettings, train_settings
from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError
from pi0_jax.plain_values import dotted_values
from pi0_jax.ranges import check_ranges

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Some:
    """Each kind of interval."""

    half: Annotated[float, "[0, 1)"] = 0.0
    open: Annotated[float, "(0, 1]"] = 1.0
    whole: Annotated[int, "[-1, 10]"] = 3
    pair: Annotated[tuple[float, float], "[0, 2]"] = (0.0, 2.0)
    free: float = NAN


INSIDE = ({}, {"half": 0.99}, {"open": 1e-9}, {"open": 1}, {"whole": -1}, {"pair": (1, 1)})


@pytest.mark.parametrize("values", INSIDE)
def test_inside(values):
    check_ranges("x", Some(**values))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"half": 1.0}, r"x\.half must be a number in \[0, 1\), got 1.0"),
        ({"half": -1e-9}, r"x\.half must"),
        ({"open": 0.0}, r"x\.open must be a number in \(0, 1\], got 0.0"),
        ({"open": NAN}, r"x\.open must .* got nan"),
        ({"open": INF}, r"x\.open must .* got inf"),
        ({"open": True}, r"x\.open must .* got True"),
        ({"open": "1"}, r"x\.open must .* got '1'"),
        ({"whole": 2.0}, r"x\.whole must be a whole number in \[-1, 10\], got 2.0"),
        ({"whole": 10**400}, r"x\.whole must be a whole number"),
        ({"pair": (0.0, NAN)}, r"x\.pair must be a number in \[0, 2\], got \(0.0, nan\)"),
    ],
)
def test_outside(values, says):
    with pytest.raises(InputError, match=says):
        check_ranges("x", Some(**values))


def parsed(**changes):
    """A scripted config with some keys replaced, by their dotted names."""
    config = load_config("demo").to_dict()
    config |= {"suite": "scripted", "task": {}}
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    found = train_settings(ConfigDict(config))
    make_suite(found.suite, found.task)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sft.optimizer.b1", 2.0),
        ("sft.optimizer.b1", -1.0),
        ("rl.optimizer.b2", NAN),
        ("sft.optimizer.weight_decay", -1.0),
        ("sft.optimizer.weight_decay", INF),
        ("sft.optimizer.clip_norm", 0.0),
        ("sft.optimizer.final_fraction", -5.0),
        ("sft.optimizer.final_fraction", NAN),
        ("rl.optimizer.rules", (("cond_embed", -20.0),)),
        ("rl.optimizer.rules", (("cond_embed", NAN),)),
        ("rl.optimizer.rules", ("cond_embed",)),
        ("rl.cfg.alpha", 1e9),
        ("rl.windows.stride", 99999999999999999999),
        ("task.tolerance", NAN),
        ("task.speed", INF),
        ("task.image_size", 100000),
        ("task.name", "a/b"),
        ("task.name", "../up"),
        ("task.demonstrator.offset_sigma", -1.0),
        ("task.demonstrator.speed", (1.0, 0.5)),
        ("baselines.base", {"iterations": 1}),
        ("baselines.ript", {"iterations": 1}),
        ("baselines.a/b", {"iterations": 1}),
        ("hardware.memory_gb", NAN),
        ("seed", 10**12),
        ("eval.first_seed", 10**23),
        ("pool.workers", 100000),
        ("checkpoints.keep", 0),
    ],
)
def test_values_that_were_once_accepted(key, value):
    with pytest.raises(InputError) as caught:
        parsed(**{key: value})
    said = str(caught.value)
    assert "\n" not in said
    assert key.split(".")[-1] in said or key.split(".")[0] in said


def test_legal_after_all():
    parsed(seed=2**32)
    parsed(**{"sft.optimizer.learning_rate": 0.0, "eval.guidance": (1.0, 1.0)})
    parsed(**{"rl.windows.stride": 3, "baselines.other": {"iterations": 1}})


def test_a_lift_has_its_cube_on_the_table():
    with pytest.raises(InputError, match=r"task.placement must be a number in \[0, 0.5\], got -1"):
        make_suite("lift", {"placement": -1.0})


ODD = st.one_of(
    st.sampled_from([NAN, INF, -INF, -1, 0, 1e300, -1e300, 10**30, True, None, "", "\0", (), {}]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.floats(), st.text(max_size=3), st.none()), max_size=3).map(tuple),
)
KEYS = sorted({*dotted_values(load_config("demo").to_dict())} - {"suite", "compilation_cache"})


@settings(max_examples=150)
@given(st.sampled_from([key for key in KEYS if not key.startswith("task.")]), ODD)
def test_any_value_of_any_key_is_right_or_one_line(key, value):
    try:
        found = parsed(**{key: value})
    except InputError as error:
        assert "\n" not in str(error)
        return
    numbers = [one for one in dotted_values(asdict(found)).values() if isinstance(one, float)]
    assert all(map(math.isfinite, numbers))


def ranged(kind: type, prefix: str = "") -> Iterator[tuple[str, str, bool]]:
    """Dotted key, interval and whether of whole numbers, of every ranged field below a type."""
    for name, interval, whole in ranges._intervals(kind):
        yield f"{prefix}{name}", interval, whole
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from ranged(hint, f"{prefix}{name}.")


def outside(interval: str, whole: bool) -> Iterator[object]:
    """Values that are just not in an interval, and others that no interval has."""
    low, high = (float(end) for end in interval[1:-1].split(", "))
    if interval[0] == "[":
        yield low - 1 if whole else np.nextafter(low, -INF)
    else:
        yield low
    if interval[-1] == "]":
        yield int(high) + 1 if whole else high * (1 + 1e-9) + 1e-9
    else:
        yield high
    yield from (NAN, INF, -INF, "3", None, True, 10**400)
    if whole:
        yield low + 0.5


def test_every_ranged_key_is_refused_beyond_its_range():
    keys = [*ranged(TrainSettings)]
    cases = [(key, value) for key, *range_ in keys for value in outside(*range_)]
    assert len(keys) > 40 and len(cases) > 350
    accepted = []
    for key, value in cases:
        try:
            parsed(**{key: value})
        except InputError as error:
            # One line, which names the key.
            assert "\n" not in str(error)
            assert key.rpartition(".")[2] in str(error) or key.partition(".")[0] in str(error)
        else:
            accepted.append((key, value))
    assert accepted == []
