"""What methods cost, from a few lines of metrics.jsonl that can be added up by eye."""

import re
from typing import Any

from pi0_jax.report.cost import Cost, cost_table, costs

Line = dict[str, Any]


def iteration(method: str, rollouts: int, updates: int = 80) -> Line:
    """A line of 30 s of rollouts and 12 s of updates."""
    line = {"step": 4000, "phase": "rl", "method": method, "rollouts": rollouts}
    return line | {"updates": updates, "seconds_rollout": 30.0, "seconds_train": 12.0}


def supervised(method: str, step: int, **values: float) -> Line:
    return {"step": step, "phase": "sft", "method": method, **values}


LINES = [
    supervised("base", 20, seconds_train=50.0),
    supervised("base", 40, seconds_train=10.0),
    *(iteration("ript", n) for n in (256, 200)),
    iteration("ript", 56, updates=0),
    # An evaluation during RL costs the method nothing.
    {"step": 4000, "phase": "rl", "method": "ript", "eval_success": 0.5, "seconds_eval": 9.0},
    {"step": 0, "phase": "eval", "method": "ript", "seconds_eval": 60.0},
    supervised("continued_sft", 160),
]


def cells(html: str) -> list[list[str]]:
    """Texts of the table's body, line by line."""
    lines = html.split("<tbody>")[1].split("</tr>")[:-1]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in lines]


def test_a_method_is_its_lines_added_up():
    found = costs(LINES)
    assert list(found) == ["base", "ript", "continued_sft"]
    assert found["base"] == Cost(0, 40, 0, 60)
    assert found["ript"] == Cost(512, 160, 90, 36)
    assert (found["continued_sft"].rollouts, found["continued_sft"].updates) == (0, 160)


def test_the_table_is_in_minutes_and_says_what_is_unknown():
    assert cells(cost_table(LINES)) == [
        ["base", "0", "40", "0", "1", "1"],
        ["RIPT", "512", "160", "1.5", "0.6", "2.1"],
        # A run of before the time of supervised updates was stored.
        ["continued SFT", "0", "160", "0", "?", "?"],
    ]


def test_a_line_without_a_count_makes_the_sum_unknown():
    lines = [iteration("ript", 256), iteration("ript", 256) | {"updates": None}]
    assert cells(cost_table(lines)) == [["RIPT", "512", "?", "1", "0.4", "1.4"]]


def test_without_training_there_is_no_table():
    assert cost_table([]) == cost_table([{"phase": "eval", "method": "policy"}]) == ""


def test_names_are_escaped():
    assert "<b>" not in cost_table([iteration("<b>", 1)])
