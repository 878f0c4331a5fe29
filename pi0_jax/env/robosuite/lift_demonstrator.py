"""The scripted demonstrator of robosuite's Lift: reads the simulator's own state."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN, move_action

_ARRIVED = 0.008  # m, the distance to a goal that counts as there
_CLOSE_STEPS = 8  # closing the fingers fully takes ten


class ObjectPoses(Protocol):
    """The poses that the demonstrator needs of a simulator."""

    def proprio(self) -> np.ndarray:
        """float32[8]; the first three are the hand's position [m], world frame."""
        ...

    def object_position(self, name: str) -> np.ndarray:
        """float64[3], m: centre of the object `name`, world frame."""
        ...


def lift(
    simulator: ObjectPoses, style: DemonstratorConfig, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Moves above the cube, then down, closes the fingers, and moves up until the episode ends.

    Args:
        simulator: gives the poses of the hand and of "cube".
        style: ranges of speed and hover, and the spread of the error of the grasp point.
        rng: random generator of the episode.

    Yields:
        Actions float64[7].
    """
    # Drawn once per episode: a constant error, which later steps cannot average out.
    speed = rng.uniform(*style.speed)
    error = rng.normal(0, [style.offset_sigma, style.offset_sigma, style.offset_sigma_z])
    grasp = simulator.object_position("cube") + error
    above = grasp + np.array([0, 0, rng.uniform(*style.hover)])
    yield from _reach(simulator, above, OPEN, speed)
    yield from _reach(simulator, grasp, OPEN, speed)
    for _ in range(_CLOSE_STEPS):
        yield _towards(simulator, grasp, CLOSE, speed)
    # A goal of 1 m is never reached: the way up goes on until success or the step limit.
    yield from _reach(simulator, grasp + np.array([0, 0, 1.0]), CLOSE, speed)


def _reach(
    simulator: ObjectPoses, goal: np.ndarray, gripper: float, speed: float
) -> Iterator[np.ndarray]:
    """Moves the hand straight to `goal`, float64[3] m, until it has arrived."""
    while np.linalg.norm(goal - simulator.proprio()[:3]) > _ARRIVED:
        yield _towards(simulator, goal, gripper, speed)


def _towards(simulator: ObjectPoses, goal: np.ndarray, gripper: float, speed: float) -> np.ndarray:
    """float64[7]: one action towards `goal`, without turning."""
    return move_action(goal - simulator.proprio()[:3], gripper, speed)
