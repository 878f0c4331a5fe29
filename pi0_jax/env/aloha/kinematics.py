"""Inverse kinematics of one arm: the joints that bring its hand to a pose, by Newton's method."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

PINCH_M = 0.142
"""From the last joint to the point between the finger pads; the fingers end 12 mm behind it."""

_ITERATIONS = 30
_NEAR = 1e-4  # m and rad: an error that needs no further step
_DAMPING = 1e-4  # near a singular pose, steps stay short
_LONGEST = 0.3  # rad, of one Newton step
_LEVER = 0.2  # m per rad: what a wrong angle weighs against a wrong place


class ArmKinematics:
    """Where the hand of one arm is, and which joints bring it elsewhere. Moves nothing.

    Args:
        model: gym-aloha's model.
        side: "left" or "right".
    """

    def __init__(self, model: mujoco.MjModel, side: str) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._hand: int = model.body(f"vx300s_{side}/gripper_link").id
        first: int = model.joint(f"vx300s_{side}/waist").id
        # The arms' joints come first in the model, so that places in qpos and qvel are the same.
        self._joints = np.arange(first, first + 6)
        self._low, self._high = model.jnt_range[self._joints].T
        self._jacobians = np.zeros((2, 3, model.nv))

    def pose(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The point between the pads, float64[3] m, and the hand's axes, float64[3, 3].

        The axes stand in columns: forwards, along the fingers' motion, upwards.
        """
        self._data.qpos[self._joints] = joints
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._hand].reshape(3, 3).copy()
        return self._data.xpos[self._hand] + PINCH_M * rotation[:, 0], rotation

    def solve(self, place: np.ndarray, rotation: np.ndarray, near: np.ndarray) -> np.ndarray:
        """float64[6] rad: joints within their limits for a pose as in `pose`.

        Args:
            place: float64[3], m.
            rotation: float64[3, 3].
            near: float64[6] rad, joints to start from; the solution is one near them.
        """
        joints = near.copy()
        for _ in range(_ITERATIONS):
            error = self._error(joints, place, rotation)
            if np.abs(error).max() < _NEAR:
                break
            step = self._newton_step(error)
            step *= min(1.0, _LONGEST / max(float(np.abs(step).max()), 1e-9))
            joints = np.clip(joints + step, self._low, self._high)
        return joints

    def _error(self, joints: np.ndarray, place: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """float64[6]: what is missing to a pose [m, rad · _LEVER], world frame."""
        here, turned = self.pose(joints)
        quat, turn = np.empty(4), np.empty(3)
        mujoco.mju_mat2Quat(quat, (rotation @ turned.T).ravel())
        mujoco.mju_quat2Vel(turn, quat if quat[0] >= 0 else -quat, 1.0)
        return np.concatenate([place - here, _LEVER * turn])

    def _newton_step(self, error: np.ndarray) -> np.ndarray:
        """float64[6] rad: the damped least-squares step at the pose that `pose` was last at."""
        model, data = self._model, self._data
        point = data.xpos[self._hand] + PINCH_M * data.xmat[self._hand].reshape(3, 3)[:, 0]
        mujoco.mj_comPos(model, data)
        mujoco.mj_jac(model, data, self._jacobians[0], self._jacobians[1], point, self._hand)
        jacobian = self._jacobians[:, :, self._joints].copy()
        jacobian[1] *= _LEVER
        jacobian = jacobian.reshape(6, 6)
        square = jacobian @ jacobian.T + _DAMPING * np.eye(6)
        return jacobian.T @ np.linalg.solve(square, error)
