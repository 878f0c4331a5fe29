"""A fine-tuning in the report: the sentence, the table by dimension, curves and pictures."""

import re

from pi0_jax.report.held_out import (
    best_line,
    error_table,
    held_out_lines,
    held_out_outcome,
    predictions,
)
from pi0_jax.report.traces import trace_chart


def line(step: int, error: float, **values) -> dict:
    return {"phase": "held_out", "step": step, "error": error, "loss": 1.0, **values}


LINES = [
    line(0, 0.9, **{"error_1/waist": 0.5, "error_10/waist": 0.75}),
    line(2000, 0.31, **{"error_1/waist": 0.02, "error_10/waist": 0.125}),
    line(1000, 0.4),
    line(3000, 0.35),
]
EPISODES = {
    "names": ["waist"],
    "units": ["rad"],
    "control_hz": 10.0,
    "episodes": [
        {
            "number": 3,
            "prompt": "lift <b>",
            "recorded": [[0.0], [1.0], [2.0], [3.0]],
            "chunks": [
                {"start": 0, "actions": [[0.0], [2.0]]},
                {"start": 2, "actions": [[2.0], [3.0]]},
            ],
            "pictures": [{"step": 2, "file": "a b.png"}],
        }
    ],
}


def test_the_best_policy_is_that_of_the_smallest_error_after_a_step():
    lines = held_out_lines([{"phase": "sft", "step": 1}, *LINES])
    assert [one["step"] for one in lines] == [0, 1000, 2000, 3000]
    best = best_line(lines)
    assert best and best["step"] == 2000
    assert best_line(lines[:1]) is None
    assert held_out_outcome(lines) == (
        "Predicted actions lie 0.31 standard deviations from those of held-out episodes after "
        "2\u2009000 steps, the best of 3 checkpoints; at the start it was 0.90."
    )
    assert "No policy has been judged" in held_out_outcome(lines[:1])


def test_a_line_of_the_table_is_a_dimension():
    table = error_table(held_out_lines(LINES), EPISODES)
    assert re.findall(r"<th class=\"number\">([^<]*)", table) == ["step 1", "step 10"]
    assert "<td>waist</td><td class='soft'>rad</td>" in table
    assert '0.02 <span class="soft">(0.5)</span>' in table
    assert '0.125 <span class="soft">(0.75)</span>' in table
    assert error_table([], EPISODES) == ""


def test_curves_and_pictures_of_an_episode():
    body = predictions(EPISODES)
    assert "Episode 3: lift &lt;b&gt;" in body and "waist [rad]" in body
    assert 'src="held_out/a%20b.png"' in body and "<figcaption>0.2 s</figcaption>" in body
    assert body.count("<path") == 3  # what was recorded, and two chunks
    assert predictions({}) == ""


def test_a_trace_by_hand():
    """Four steps from x 38 to 254; values 0 to 3 from y 86 up to 6. A chunk begins at its step."""
    svg = trace_chart([0.0, 1.0, 2.0, 3.0], {2: [2.0, 3.0]}, None)
    recorded, chunk = re.findall(r'd="M([^"]*)"', svg)
    assert recorded.startswith("38.0 86.0L") and recorded.endswith("L254.0 6.0")
    assert chunk == recorded.split("L", 2)[2].replace("L", "L")
    assert "NaN" not in trace_chart([1.0], {0: [1.0]}, 50.0)
