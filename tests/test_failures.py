"""Causes of failures by hand; `bench/failures.py` watches the simulator for them."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from failures import Watched, table

CLOSED = (0, 0, 1, 1, 0, 1)


def watched(distance, lift, closing) -> Watched:
    arrays = (np.array(values, float) for values in (distance, lift))
    return Watched("on bowl plate", *arrays, np.array(closing, bool), moved=0.02)


@pytest.mark.parametrize(
    ("distance", "lift", "closing", "cause"),
    [
        ([0.3] * 6, [0] * 6, [0] * 6, "no attempt"),
        # Nearest while it is open, so that does not count.
        ([0.3, 0.01, 0.05, 0.05, 0.01, 0.05], [0] * 6, CLOSED, "perception"),
        ([0.3, 0.1, 0.02, 0.02, 0.1, 0.1], [0, 0, 0, 0.02, 0, 0], CLOSED, "precision"),
        ([0.3, 0.1, 0.01, 0.01, 0.1, 0.1], [0, 0, 0.1, 0.1, 0, 0], CLOSED, "placing"),
        ([0.3, 0.1, 0.01, 0.01, 0.0, 0.0], [0, 0, 0.1, 0.1, 0.1, 0.1], CLOSED, "time"),
        # Not held: it lies higher than before, such as on the stove.
        (
            [0.3, 0.1, 0.01, 0.01, 0.1, 0.1],
            [0, 0, 0.1, 0.1, 0.1, 0.1],
            [0, 0, 1, 1, 0, 0],
            "placing",
        ),
    ],
)
def test_the_cause(distance, lift, closing, cause):
    assert watched(distance, lift, closing).cause == cause


def test_the_table():
    near = watched([0.3, 0.1, 0.02, 0.02, 0.1, 0.1], [0] * 6, CLOSED)
    assert near.attempts == 2
    never = watched([0.3] * 6, [0] * 6, [0] * 6)
    lines = table([near, never, never]).splitlines()
    assert lines[2:] == ["| precision | 1 | 1 | 2.0 | 2.0 |", "| no attempt | 2 | 0 | 2.0 | - |"]
