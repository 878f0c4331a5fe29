"""ALOHA's convention against numbers of openpi's and lerobot's formulas, worked out by hand."""

import numpy as np
import pytest

from pi0_jax.data.action_space import ActionSpace, parse_mask
from pi0_jax.data.aloha import actions_from_pi, actions_to_pi, state_to_pi
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.data.tokenizer import ByteTokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.robots import load_robot

GRIPPERS = [6, 13]
SIGNS = np.array([1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1])


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


def openpis_state_gripper(value: float) -> float:
    """A way between 18.44 and 58 mm, through the linkage to an angle, over 0.5476 to 1.6296."""
    way = value * (0.058 - 0.01844) + 0.01844
    angle = np.arcsin(np.clip((0.022**2 + way**2 - 0.036**2) / (2 * 0.022 * way), -1, 1))
    return (angle - 0.5476) / (1.6296 - 0.5476)


def openpis_action_gripper(value: float) -> float:
    """Which action of pi gives this one of ALOHA: an angle of -0.6213 to 1.4910, from 0.5476 on."""
    return value * (1.4910 + 0.6213) - 0.6213 - 0.5476


@pytest.mark.parametrize(
    ("name", "mask"), [("pi0_aloha_sim", "-14"), ("pi0_aloha_towel", "6,-1,6,-1")]
)
def test_the_whole_road_is_openpis(name: str, mask: str) -> None:
    """From the robot to the network and back, over a horizon of 50; only the others have deltas."""
    rng = np.random.default_rng(3)
    mean, std = rng.normal(size=14), rng.uniform(0.2, 2, 14)
    stats = Stats(mean, std, mean - std, mean + std)
    space = ActionSpace(parse_mask(mask), "openpi")
    transforms = Transforms(
        224, 32, 48, ByteTokenizer(), NormStats(stats, stats), load_robot("aloha_sim"), space
    )
    state, actions = rng.uniform(0, 1, 14), rng.uniform(0, 1, (50, 14))

    pis_state = SIGNS * state
    pis_actions = SIGNS * actions
    for gripper in GRIPPERS:
        pis_state[gripper] = openpis_state_gripper(state[gripper])
        pis_actions[:, gripper] = [openpis_action_gripper(a) for a in actions[:, gripper]]
    if name != "pi0_aloha_sim":
        joints = np.delete(np.arange(14), GRIPPERS)
        pis_actions[:, joints] -= pis_state[joints]

    seen, made = transforms.state(state), transforms.actions(actions, state)
    assert seen.shape == (32,)
    assert made.shape == (50, 32)
    np.testing.assert_allclose(seen[:14], (pis_state - mean) / (std + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(made[:, :14], (pis_actions - mean) / (std + 1e-6), rtol=1e-5)
    assert not seen[14:].any()
    assert not made[:, 14:].any()
    np.testing.assert_allclose(transforms.robot_actions(made, state), actions, atol=1e-6)
