"""Where the hand comes down, by hand; `bench/aim.py` reads it from stored evaluations."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from aim import closing_height, places, row, shifts
from tiny import episode


def descent(seed: int, x: float, closes: float = 0.0, success: bool = True):
    """The hand comes down by 2 cm per step to z = 0, at x and y = 2 x, and closes there."""
    z = np.array([0.08, 0.06, 0.04, 0.02, 0.0])
    actions = np.where(z[:, None] <= closes, [[0.0] * 6 + [1.0]], [[0.0] * 6 + [-1.0]])
    state = np.stack([np.full(5, x), np.full(5, 2 * x), z], axis=1)
    return episode(5, [0], seed, state=state, actions=actions, success=success)


def test_the_height_at_which_the_gripper_closes():
    assert closing_height([descent(0, 0.1), descent(1, 0.1, 0.02), descent(2, 0.1, 0.02)]) == 0.02


def test_a_mean_shift_and_a_deviation_on_the_states_of_both():
    aims = places([descent(0, 0.10), descent(1, 0.20), descent(2, 0.30)], 0.03)
    shift = shifts(places([descent(0, 0.11), descent(1, 0.23), descent(7, 0.0)], 0.03), aims)
    assert shift == pytest.approx(np.array([[1, 2], [3, 6]]))
    assert row("base_1", "failed", shift) == "| base_1 | failed | 2 | +2.00 (1.00) | +4.00 (2.00) |"


def test_a_hand_that_never_comes_down_is_left_out():
    assert places([descent(0, 0.1)], -0.01) == {}
    assert row("base_1", "solved", shifts({}, {})) == "| base_1 | solved | 0 | - | - |"
