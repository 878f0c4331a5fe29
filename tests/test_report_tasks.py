"""The table of tasks: every rate in its place, sums below, text escaped."""

import re

from pi0_jax.report.tasks import task_table
from pi0_jax.run.success import Row

ROWS = [
    Row("sft", "base", "a", 1.0, 1, 10),
    Row("sft", "base", "b", 1.0, 2, 10),
    *(Row("rl", "ript", task, w, n, 10) for w, task, n in (
        (1.0, "a", 5), (1.0, "b", 10), (2.0, "a", 0), (2.0, "b", 10)
    )),
]  # fmt: skip


def cells(html: str) -> list[list[str]]:
    """Text of every line's cells, a bar between a cell's lines."""
    return [
        [
            re.sub("<[^>]*>", "", cell.replace("<small>", "|")).replace("\u202f", " ")
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)
        ]
        for line in re.findall(r"<tr>(.*?)</tr>", html)
    ]


def test_every_rate_in_its_place():
    assert cells(task_table(ROWS, {"b": "push the button"})) == [
        ["", "base", "RIPT"],
        ["", "w = 1", "w = 1", "w = 2"],
        ["a", "10 %|[2, 40]", "50 %|[24, 76]", "0 %|[0, 28]"],
        ["push the button|b", "20 %|[6, 51]", "100 %|[72, 100]", "100 %|[72, 100]"],
        ["all 2 tasks", "15 %|[5, 36]", "75 %|[53, 89]", "50 %|[30, 70]"],
    ]
    assert 'colspan="2">RIPT' in task_table(ROWS, {})


def test_a_task_that_an_arm_has_not_done():
    rows = [ROWS[0], *ROWS[2:4], Row("rl", "bc", "a", None, 0, 0)]
    table = cells(task_table(rows, {}))
    assert table[1] == ["", "w = 1", "w = 1", ""]
    assert table[2][1:] == ["10 %|[2, 40]", "50 %|[24, 76]", "?"]
    assert table[3] == ["b", "?", "100 %|[72, 100]", "?"]


def test_names_are_escaped():
    html = task_table([Row("rl", "<b>", "<i>", 1.0, 0, 1)], {"<i>": "<script>"})
    assert not {"<b>", "<i>", "<script>"} & set(re.findall("<[^>]*>", html))
