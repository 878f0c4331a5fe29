"""Wilson intervals and result rows against values worked out by hand."""

import json
import math

import pytest

from pi0_jax.errors import InputError
from pi0_jax.run.success import Row, markdown, pool_tasks, row_from_dict, table, wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        # p = 1/2, n = 10: (0.5 + 0.19208 ± 1.96 sqrt(0.025 + 0.009604)) / 1.38416
        (5, 10, 0.2366, 0.7634),
        # No success in n: from 0 to z² / (n + z²) = 3.8416 / 13.8416.
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        # One of one: from n / (n + z²) = 1 / 4.8416.
        (1, 1, 0.2065, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_by_hand(successes: int, episodes: int, low: float, high: float):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=5e-5)


def test_wilson_solves_its_defining_equation():
    for end in wilson(13, 48):
        assert abs(13 / 48 - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / 48))


def test_wilson_mirrors_and_narrows():
    low, high = wilson(3, 20)
    assert wilson(17, 20) == pytest.approx((1 - high, 1 - low))
    assert wilson(5, 10, z=1.0)[0] > wilson(5, 10)[0]
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("counts", [(11, 10), (-1, 10), (0, -1)])
def test_impossible_counts(counts: tuple[int, int]):
    with pytest.raises(ValueError, match="successes"):
        wilson(*counts)
    with pytest.raises(ValueError, match="successes"):
        Row("eval", "base", "lift", None, *counts)


def test_row_as_dict_has_exactly_the_contract():
    entry = Row("rl", "ript", "lift", 1.5, 5, 10, "base").as_dict()
    assert entry == {
        "phase": "rl",
        "method": "ript",
        "task": "lift",
        "guidance": 1.5,
        "successes": 5,
        "episodes": 10,
        "reference": "base",
        "rate": 0.5,
        "wilson_low": pytest.approx(0.2366, abs=5e-5),
        "wilson_high": pytest.approx(0.7634, abs=5e-5),
    }
    row = Row("rl", "ript", "lift", 1.5, 5, 10, "base")
    assert row_from_dict(json.loads(json.dumps(entry))) == row
    del entry["reference"]  # results of before it was stored
    assert row_from_dict(entry).reference == ""


def test_row_without_episodes_is_valid_json():
    row = Row("eval", "base", "lift", None, 0, 0)
    assert math.isnan(row.rate)
    assert json.loads(json.dumps(row.as_dict(), allow_nan=False))["rate"] is None


@pytest.mark.parametrize("change", [{"phase": "test"}, {"episodes": None}, {"successes": 11}])
def test_bad_rows_say_so(change: dict[str, object]):
    entry = Row("rl", "ript", "lift", 1.0, 5, 10).as_dict() | change
    with pytest.raises(InputError, match=r"results\.json"):
        row_from_dict(entry)


def test_pool_adds_tasks_and_keeps_arms_and_scales_apart():
    rows = [
        Row("rl", "ript", "a", 1.0, 3, 10),
        Row("rl", "ript", "b", 1.0, 4, 10),
        Row("rl", "ript", "a", 2.0, 9, 10),
        Row("sft", "base", "a", None, 1, 10),
    ]
    assert pool_tasks(rows) == [
        Row("rl", "ript", "all 2 tasks", 1.0, 7, 20),
        Row("rl", "ript", "a", 2.0, 9, 10),
        Row("sft", "base", "a", None, 1, 10),
    ]


ROWS = [Row("sft", "base", "lift", None, 5, 10), Row("rl", "a|b", "lift", 1.5, 10, 10)]


def test_table_is_aligned():
    assert table(ROWS).split("\n") == [
        "phase  method  task  guidance  success    rate    95 % interval",
        "sft    base    lift         -     5/10   50.0%   [23.7%, 76.3%]",
        "rl     a|b     lift       1.5    10/10  100.0%  [72.2%, 100.0%]",
    ]


def test_a_table_of_several_tasks_ends_in_their_sum():
    rows = [
        Row("eval", "policy", task, guidance, successes, 10)
        for guidance in (1.0, 2.0)
        for task, successes in (("a", 3), ("b", 4))
    ]
    lines = table(rows).split("\n")[1:]
    assert [line.split()[2] for line in lines] == ["a", "b", "all", "a", "b", "all"]
    assert ["7/20" in line for line in lines] == [False, False, True] * 2
    assert lines[2].endswith("7/20  35.0%  [18.1%, 56.7%]")
    assert markdown(rows).count("7/20") == 2


def test_markdown_escapes_pipes():
    lines = markdown(ROWS).split("\n")
    assert lines[1] == "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    assert lines[2] == "| sft | base | lift | - | 5/10 | 50.0% | [23.7%, 76.3%] |"
    assert r"a\|b" in lines[3]
