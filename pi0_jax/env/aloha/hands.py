"""Two hands that go from pose to pose, in joint space: what both scripted demonstrators share.

A demonstrator says where the hands should be, at a few way points. Inverse kinematics makes joints
of them, and the commands run smoothly from the last joints to the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0_jax.env.aloha.kinematics import ArmKinematics
from pi0_jax.env.aloha.simulator import LEFT, RIGHT, AlohaSimulator
from pi0_jax.env.demonstrator import DemonstratorConfig

OPEN, CLOSED = 1.0, 0.0
"""Values of a gripper's action."""

_SPEED_M_PER_S = 0.35  # of a hand, at a speed of 1
_TURN_RAD_PER_S = 2.0  # of a joint, at a speed of 1
_CONTROL_HZ = 50
_SHORTEST = 10  # control steps of a move: the wrists' motors are weak


@dataclass(frozen=True)
class Pose:
    """Where a hand should be.

    Attributes:
        place: float64[3], m: the point between the finger pads, world frame.
        pitch: rad, how far the hand points downwards; 0 is level, towards the other arm.
        roll: rad, about the direction in which it points; at 0 the fingers move along y.
    """

    place: np.ndarray
    pitch: float
    roll: float = 0.0

    def shifted(self, by: np.ndarray) -> "Pose":
        """The same hand, float64[3] m elsewhere."""
        return Pose(self.place + by, self.pitch, self.roll)

    def above(self, height: float) -> "Pose":
        """The same hand, `height` [m] higher."""
        return self.shifted(np.array([0.0, 0.0, height]))


class Hands:
    """Commands of both arms; each `Iterator` yields one action float64[14] per control step.

    Args:
        simulator: gives the model and the joints at the start.
        speed: of all moves; 1 is fast.
    """

    def __init__(self, simulator: AlohaSimulator, speed: float) -> None:
        self._arms = {side: ArmKinematics(simulator.model, side) for side in ("left", "right")}
        self._action = simulator.proprio().astype(np.float64)
        self._speed = speed

    def move(self, **poses: Pose) -> Iterator[np.ndarray]:
        """Moves hands to poses by side; the other stays. All arrive at the same time."""
        goal, steps = self._action.copy(), _SHORTEST
        for side, pose in poses.items():
            arm, part = self._arms[side], _joints(side)
            goal[part] = arm.solve(pose.place, _rotation(side, pose), self._action[part])
            way = np.linalg.norm(pose.place - arm.pose(self._action[part])[0])
            turn = np.abs(goal[part] - self._action[part]).max()
            seconds = max(way / _SPEED_M_PER_S, turn / _TURN_RAD_PER_S) / self._speed
            steps = max(steps, round(seconds * _CONTROL_HZ))
        yield from self._to(goal, steps)

    def grip(self, steps: int, **grippers: float) -> Iterator[np.ndarray]:
        """Opens or closes hands by side, from OPEN to CLOSED."""
        goal = self._action.copy()
        for side, value in grippers.items():
            goal[_joints(side).stop] = value
        yield from self._to(goal, steps)

    def wait(self, steps: int) -> Iterator[np.ndarray]:
        """Stays; the arms are some steps behind their commands."""
        yield from self._to(self._action.copy(), steps)

    def _to(self, goal: np.ndarray, steps: int) -> Iterator[np.ndarray]:
        start = self._action
        for step in range(1, steps + 1):
            part = step / steps
            # From rest to rest: 3 p² - 2 p³ has no speed at either end.
            self._action = start + (3 - 2 * part) * part**2 * (goal - start)
            yield self._action.copy()


def draw_error(style: DemonstratorConfig, rng: np.random.Generator) -> np.ndarray:
    """float64[3], m: the error of a grasp point, constant over an episode."""
    return rng.normal(0, [style.offset_sigma, style.offset_sigma, style.offset_sigma_z])


def _joints(side: str) -> slice:
    """Places of an arm's joints in an action; the gripper is behind them."""
    return {"left": LEFT, "right": RIGHT}[side]


def _rotation(side: str, pose: Pose) -> np.ndarray:
    """float64[3, 3]: the hand's axes in columns, world frame."""
    towards = 1.0 if side == "left" else -1.0
    cos, sin = np.cos([pose.pitch, pose.roll]), np.sin([pose.pitch, pose.roll])
    level = np.diag([towards, towards, 1.0])
    pitched = np.array([[cos[0], 0, sin[0]], [0, 1, 0], [-sin[0], 0, cos[0]]])
    rolled = np.array([[1, 0, 0], [0, cos[1], -sin[1]], [0, sin[1], cos[1]]])
    return level @ pitched @ rolled
