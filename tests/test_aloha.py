"""ALOHA's convention against numbers of openpi's and lerobot's formulas, worked out by hand."""

import numpy as np
import pytest

from pi0_jax.data.aloha import actions_from_pi, actions_to_pi, state_to_pi

GRIPPERS = [6, 13]


def test_three_joints_of_each_arm_change_their_sign() -> None:
    ones = np.ones(14)
    assert np.flatnonzero(state_to_pi(ones, "openpi") == -1).tolist() == [1, 2, 8, 9]
    assert np.flatnonzero(actions_from_pi(ones, "openpi") == -1).tolist() == [1, 2, 8, 9]


def test_a_closed_and_an_open_gripper_have_the_angles_of_the_linkage() -> None:
    """A way of 18.44 mm: (0.022² + 0.01844² - 0.036²) / (2 · 0.022 · 0.01844) = -0.58168."""
    closed, opened = state_to_pi(np.zeros(14), "openpi"), state_to_pi(np.ones(14), "openpi")
    angle = np.arcsin(-0.58168)
    np.testing.assert_allclose(closed[GRIPPERS], (angle - 0.5476) / (1.6296 - 0.5476), atol=1e-4)
    # 58 mm is as far as the linkage reaches: the ratio is 1.0000 and the angle a right one.
    np.testing.assert_allclose(opened[GRIPPERS], (np.pi / 2 - 0.5476) / 1.082, atol=1e-4)


@pytest.mark.parametrize(("convention", "low", "high"), [("openpi", 0.0, 1.082), ("lerobot", 0, 1)])
def test_pis_actions_run_over_the_same_way_in_their_own_unit(
    convention: str, low: float, high: float
) -> None:
    """ALOHA's gripper is at 0 for -0.6213 rad and at 1 for 1.4910 rad."""
    start, end = {"openpi": (0.5476, 1.6296), "lerobot": (0.4, 1.5)}[convention]
    for action, angle in ((low, start), (high, end)):
        found = actions_from_pi(np.full(14, float(action)), convention)[GRIPPERS]
        np.testing.assert_allclose(found, (angle + 0.6213) / (1.4910 + 0.6213))


@pytest.mark.parametrize("convention", ["openpi", "lerobot"])
def test_actions_there_and_back(convention: str) -> None:
    actions = np.random.default_rng(0).normal(size=(3, 5, 14))
    back = actions_to_pi(actions_from_pi(actions, convention), convention)
    np.testing.assert_allclose(back, actions)
    assert actions_from_pi(actions, convention) is not actions
