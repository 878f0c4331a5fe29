"""The table of how a machine was used, from three lines of metrics.jsonl."""

import re

from pi0_jax.report.machine import machine_table

ITERATION = {
    "phase": "rl",
    "method": "ript",
    "seconds_rollout": 120.0,
    "seconds_policy": 60.0,
    "observations_per_call": 20.0,
    "padding_share": 0.25,
    "host_peak_gb": 3.0,
}
LINES = [
    ITERATION,
    ITERATION | {"observations_per_call": 10.0, "padding_share": 0.75, "host_peak_gb": 4.0},
    {"phase": "checkpoint", "method": "ript", "seconds_checkpoint": 30.0},
    {"phase": "rl", "method": "ript", "seconds_policy": 900.0, "eval_success": 0.5},
]


def test_a_method_is_its_lines():
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", machine_table(LINES))
    assert cells == ["RIPT", "2", "50%", "15.0", "50%", "0.5", "?", "4"]


def test_a_run_of_before_has_no_table():
    assert machine_table([{"phase": "rl", "method": "ript", "seconds_rollout": 1.0}]) == ""
