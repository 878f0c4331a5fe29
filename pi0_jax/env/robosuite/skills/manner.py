"""How an episode's demonstrator moves: its speed, its constant error, and where hands point."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.skills.hand import PASSED, Hand, rotation_about
from pi0_jax.env.robosuite.skills.scene import Scene

LIFT = 0.03  # m between what is moved and what is below it
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Manner:
    """What is constant in an episode.

    Attributes:
        speed: largest translation of an action.
        error: float64[3], m: how far the hand is from where it should take hold.
        hover: m: height above an object from which the hand moves straight down.
    """

    speed: float
    error: np.ndarray
    hover: float

    @classmethod
    def drawn(cls, style: DemonstratorConfig, rng: np.random.Generator) -> "Manner":
        """An episode's manner, as `style` has it."""
        speed = rng.uniform(*style.speed)
        error = rng.normal(0, [style.offset_sigma, style.offset_sigma, style.offset_sigma_z])
        return cls(speed, error, rng.uniform(*style.hover))

    def hand(self, scene: Scene, yaw: float, lean: np.ndarray | None = None) -> Hand:
        """A hand that points down, turned by `yaw` rad, then by the rotation vector `lean` rad."""
        tilt = np.eye(3) if lean is None else rotation_about(lean)
        return Hand(scene.arm, tilt @ rotation_about(yaw * UP) @ scene.rest, self.speed)


def approach(
    scene: Scene, hand: Hand, goal: np.ndarray, gripper: float, below: float, others: np.ndarray
) -> Iterator[np.ndarray]:
    """Moves up and over everything to a place above `goal`, but not down to it.

    Args:
        scene: the scene.
        hand: the hand to move.
        goal: float64[3], m: where the hand will go next.
        gripper: the gripper's action.
        below: m: how far hand and load reach below the point between the pads.
        others: float64[n, 3], m: points that are not to be touched.
    """
    here = scene.arm.position
    safe = scene.highest(others, here, goal) + below + LIFT
    if safe > here[2]:
        yield from hand.reach(np.array([here[0], here[1], safe]), gripper, PASSED)
    yield from hand.reach(np.array([*goal[:2], max(safe, goal[2])]), gripper, PASSED)
