"""Moves the hand from place to place in a constant orientation, one action per control step."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.panda_robot import move_action

ARRIVED, PASSED = 0.007, 0.03  # m, distances that count as there, for a stop and for a waypoint
CLOSE_STEPS, OPEN_STEPS = 12, 8  # control steps in which the fingers move all their way
_HALF_RADIAN = 0.5  # rad, the rotation of OSC_POSE for an action of 1
_TURNED, _TURNED_ENOUGH = 0.03, 0.1  # rad, errors that are not corrected, and that allow to go on
_PATIENCE = 6  # steps without progress after which a move is given up
_NEARER = 0.001  # m, the least progress
_LEVER = 0.1  # m per rad: converts a remaining rotation to a distance when progress is judged


class Hand:
    """Makes actions that move the hand to places in one orientation.

    Args:
        arm: the arm to move.
        rotation: float64[3, 3]: the orientation, world frame; z points out of the hand, and the
            fingers move along y.
        speed: largest translation of an action.
    """

    def __init__(self, arm: PandaArm, rotation: np.ndarray, speed: float) -> None:
        self._arm, self._rotation, self._speed = arm, rotation, speed

    def towards(self, goal: np.ndarray, gripper: float) -> np.ndarray:
        """float64[7]: one action towards `goal`, float64[3] m."""
        action = move_action(goal - self._arm.position, gripper, self._speed)
        turn = self._turn()
        # With a rotation of exactly zero the controller keeps the orientation of the last goal.
        if np.linalg.norm(turn) > _TURNED:
            # Scaled, not clipped: another direction of turning leads the arm to its joint limits.
            action[3:6] = turn / max(_HALF_RADIAN, float(abs(turn).max()))
        return action

    def reach(self, goal: np.ndarray, gripper: float, near: float) -> Iterator[np.ndarray]:
        """Moves to `goal`, float64[3] m, and turns, until within `near` m or without progress."""
        best, since = np.inf, 0
        while since < _PATIENCE:
            way = float(np.linalg.norm(goal - self._arm.position))
            turn = float(np.linalg.norm(self._turn()))
            if way < near and turn < _TURNED_ENOUGH:
                return
            left = way + _LEVER * turn
            best, since = (left, 0) if left < best - _NEARER else (best, since + 1)
            yield self.towards(goal, gripper)

    def stay(self, goal: np.ndarray, gripper: float, steps: int) -> Iterator[np.ndarray]:
        """Stays at `goal`, float64[3] m, while the fingers move."""
        for _ in range(steps):
            yield self.towards(goal, gripper)

    def _turn(self) -> np.ndarray:
        """float64[3] rad: the remaining rotation, world frame."""
        quat, vector = np.empty(4), np.empty(3)
        mujoco.mju_mat2Quat(quat, (self._rotation @ self._arm.rotation.T).ravel())
        mujoco.mju_quat2Vel(vector, quat if quat[0] >= 0 else -quat, 1.0)
        return vector


def rotation_about(vector: np.ndarray) -> np.ndarray:
    """float64[3, 3]: the rotation about the direction of float64[3] by its length [rad]."""
    quat, matrix = np.empty(4), np.empty(9)
    angle = float(np.linalg.norm(vector))
    mujoco.mju_axisAngle2Quat(quat, vector / max(angle, 1e-9), angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)
