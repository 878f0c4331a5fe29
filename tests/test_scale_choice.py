"""Scales that are chosen on a part of the states, by hand; `bench/scale_choice.py` reads runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from scale_choice import chosen, line

STATES = [("soup", seed) for seed in range(100)]


def outcomes(solved: range):
    return {state: state[1] in solved for state in STATES}


# The first 50 states like the scale 2, the others do not.
RUN = {
    "1": outcomes(range(20, 80)),
    "1.5_base": outcomes(range(20, 80)),
    "2_base": outcomes(range(50)),
}


def test_the_scale_that_solves_most_and_the_first_of_equals():
    assert chosen(RUN, STATES[:50]) == "2_base"
    assert chosen(RUN, STATES[50:]) == "1"


def test_a_choice_is_judged_on_the_other_states():
    first, second = line([RUN], 0), line([RUN], 50)
    assert first == (
        "| 0 to 49 | 2_base | 50 | 60.0 [46.2, 72.4] | 0.0 [0.0, 7.1] | 0 : 30 | < 0.001 |"
    )
    assert second.startswith("| 50 to 99 | 1 | 50 | 60.0 [46.2, 72.4] | 60.0")
    assert second.endswith("| 0 : 0 | 1.000 |")


def test_states_of_two_runs_are_counted_apart():
    assert line([RUN, RUN], 0).split(" | ")[1:3] == ["2_base, 2_base", "100"]
