"""Lift's scripted demonstrator: its moves on a point hand, and how often it lifts the cube."""

import itertools

import numpy as np
import pytest
from skips import slow

from pi0_jax.env.base import Job
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.robosuite.lift_demonstrator import lift
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN
from pi0_jax.env.workers.pool import SimulatorPool

TASK = LiftTask()
EXACT = DemonstratorConfig(offset_sigma=0, offset_sigma_z=0, action_noise=0, rotation_noise=0)


class PointHand:
    """A hand that does a third of each move (the demonstrator asks for threefold), and a cube."""

    def __init__(self, hand: list[float], cube: list[float]) -> None:
        self.hand, self.cube = np.array(hand), np.array(cube)

    def proprio(self) -> np.ndarray:
        return np.concatenate([self.hand, np.zeros(5)]).astype(np.float32)

    def object_position(self, name: str) -> np.ndarray:
        assert name == "cube"
        return self.cube


def driven(hand: PointHand, style: DemonstratorConfig, steps: int) -> np.ndarray:
    """Moves the hand by the demonstrator's actions: [t, 4] position after each, and gripper."""
    trace = []
    for action in itertools.islice(lift(hand, style, np.random.default_rng(0)), steps):
        hand.hand = hand.hand + 0.05 / 3 * action[:3]
        trace.append([*hand.hand, action[6]])
    return np.array(trace)


def test_lift_moves_above_then_down_closes_and_moves_up():
    style = DemonstratorConfig(
        offset_sigma=0, offset_sigma_z=0, speed=(0.6, 0.6), hover=(0.07, 0.07)
    )
    trace = driven(PointHand([0.1, 0.0, 1.0], [0.0, 0.0, 0.8]), style, 80)
    xyz, gripper = trace[:, :3], trace[:, 3]
    closed = int(np.argmax(gripper == CLOSE))
    assert (gripper[:closed] == OPEN).all()
    assert (gripper[closed:] == CLOSE).all()
    # Not below the hover height before it is above the cube.
    aside = np.linalg.norm(xyz[:, :2], axis=1) > 0.02
    assert xyz[aside, 2].min() > 0.8 + 0.07
    # It closes at the cube, stays for 8 steps, and goes up by 1 cm per step (0.6 of 5/3 cm).
    np.testing.assert_allclose(xyz[closed : closed + 8, 2], 0.8, atol=0.008)
    np.testing.assert_allclose(np.diff(xyz[closed + 8 :, 2]), 0.01, atol=1e-6)


def test_lift_aims_at_a_displaced_point_for_a_whole_episode():
    style = DemonstratorConfig(offset_sigma=0.05, offset_sigma_z=0, speed=(1.0, 1.0))
    trace = driven(PointHand([0.0, 0.0, 1.0], [0.0, 0.0, 0.8]), style, 40)
    grasped = trace[trace[:, 3] == CLOSE][0, :2]
    assert np.linalg.norm(grasped) > 0.008
    np.testing.assert_allclose(trace[-1, :2], grasped, atol=0.008)


@pytest.fixture(scope="module")
def pool():
    with SimulatorPool(2, 60, renderer=choose_renderer()) as pool:
        yield pool


def demonstrations(pool, style, seeds):
    return pool.map([Job(TASK, demonstrate, (seed, style)) for seed in seeds])


def test_lift_without_errors_always_succeeds(pool):
    episodes = demonstrations(pool, EXACT, range(12))
    assert [episode.success for episode in episodes] == [True] * 12
    assert max(len(episode) for episode in episodes) < TASK.max_steps


@slow
def test_lift_with_errors_succeeds_often_and_failures_are_kept(pool):
    episodes = demonstrations(pool, DemonstratorConfig(), range(40))
    successes = sum(episode.success for episode in episodes)
    assert 20 <= successes <= 36  # 70 % over 300 seeds
    failures = [episode for episode in episodes if not episode.success]
    assert {len(episode) for episode in failures} == {TASK.max_steps}
