"""The Pandas of LIBERO and Lift: their dimensions, and actions along a way."""

import numpy as np

from pi0_jax.env.robosuite.panda_robot import CLOSE, LIFT_PANDA, OPEN, PANDA, move_action


def test_panda_has_eight_values_of_state_and_seven_limited_actions():
    assert len(PANDA.state) == 8
    assert [(d.low, d.high) for d in PANDA.actions] == [(-1, 1)] * 7


def test_lifts_robot_is_another_one_for_its_rotation_is_seen_from_a_hand_that_points_down():
    names = [d.name for d in LIFT_PANDA.state]
    assert names[3:6] == ["from_down_x", "from_down_y", "from_down_z"]
    assert names[:3] + names[6:] == [d.name for d in PANDA.state[:3] + PANDA.state[6:]]
    assert LIFT_PANDA.actions == PANDA.actions


def test_move_action_goes_three_times_a_short_way_without_turning():
    # An action of 1 is 5 cm: 1 cm is 0.2, and 0.6 with the gain of 3.
    action = move_action(np.array([0.01, 0.0, -0.005]), OPEN, speed=1.0)
    np.testing.assert_allclose(action, [0.6, 0, -0.3, 0, 0, 0, -1])


def test_move_action_is_not_faster_than_its_speed():
    action = move_action(np.array([0.3, -0.3, 0.0]), CLOSE, speed=0.7)
    np.testing.assert_allclose(action, [0.7, -0.7, 0, 0, 0, 0, 1])
