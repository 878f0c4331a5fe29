"""One Panda arm under OSC_POSE: the control step of robosuite, bit for bit, at a third of the cost.

A control step (50 ms) is 25 physics steps of 2 ms. robosuite runs MuJoCo's forward pass three
times in each of them (`sim.forward`, `Controller.update`, `sim.step`) and polls every observable.
One pass is enough: `mj_step1` (positions and velocities), the controller, `mj_step2` (forces and
integration). The controller's formulas are robosuite's own compiled functions, called on the same
values in the same memory layout, hence every bit of a trajectory is equal (tests/test_lift.py).

From one control step to the next the controller keeps its goal orientation (an action without
rotation does not change it), the posture of its null space, and the gripper's integrator.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import mujoco
import numba
import numpy as np

from pi0_jax.env.robosuite import gl

# Without this module robosuite warns on stderr and opens /tmp/robosuite.log, which may be
# another user's; so robosuite is imported through here.
sys.modules.setdefault("robosuite.macros_private", ModuleType("robosuite.macros_private"))
gl.check_device()
import robosuite  # noqa: E402
from robosuite.utils import control_utils  # noqa: E402

_FINGER_SPEED = np.array([-0.01, 0.01])  # per physics step, robosuite's PandaGripper
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION

_opspace_matrices = control_utils.opspace_matrices
_nullspace_torques = control_utils.nullspace_torques
_orientation_error = control_utils.orientation_error


def controller_config() -> dict[str, Any]:
    """The default OSC_POSE: an action of 1 means 5 cm or 0.5 rad."""
    return robosuite.load_controller_config(default_controller="OSC_POSE")


@numba.njit(cache=True)
def _arm_torques(
    jac_pos, jac_ori, mass, qpos, qvel, bias, arm, position, rotation,
    goal_pos, goal_ori, posture, kp, kd,
):  # fmt: skip
    """float64[7] joint torques: robosuite's `OperationalSpaceController.run_controller`.

    jac_pos, jac_ori: float64[3, nv]; mass: float64[nv, nv]; arm: int64[7], the joints' indices.
    """
    # Column-major, as robosuite's fancy indexing leaves them: BLAS rounds differently otherwise.
    arm_pos, arm_ori = np.asfortranarray(jac_pos[:, arm]), np.asfortranarray(jac_ori[:, arm])
    jac = np.empty((len(arm), 6)).T
    jac[:3], jac[3:] = arm_pos, arm_ori
    arm_mass = np.asfortranarray(mass[arm, :][:, arm])
    turn = _orientation_error(goal_ori, rotation)
    force = (goal_pos - position) * kp[:3] + (-np.dot(jac_pos, qvel)) * kd[:3]
    torque = turn * kp[3:6] + (-np.dot(jac_ori, qvel)) * kd[3:6]
    _, inertia_pos, inertia_ori, nullspace = _opspace_matrices(arm_mass, jac, arm_pos, arm_ori)
    wrench = np.concatenate((np.dot(inertia_pos, force), np.dot(inertia_ori, torque)))
    torques = np.dot(jac.T, wrench) + bias[arm]
    return torques + _nullspace_torques(arm_mass, nullspace, posture, qpos[arm], qvel[arm])


@dataclass(frozen=True)
class Seen:
    """What robosuite's sensors read in a control step: the state one physics step before its end.

    Attributes:
        qpos: float64[nq], the joint positions that a picture shows.
        position: float64[3], m: the point between the finger pads, world frame.
        quat: float64[4], w first: orientation of the hand, world frame.
        fingers: float64[2], m: read after the positions were advanced, unlike the others.
    """

    qpos: np.ndarray
    position: np.ndarray
    quat: np.ndarray
    fingers: np.ndarray


class PandaArm:
    """Controls the one arm of a robosuite environment; its variables can be saved and loaded.

    Between calls MuJoCo's derived quantities (poses, cameras) belong to the present state,
    except right after `act`: `look` brings them up to date.

    Args:
        env: a robosuite environment with one Panda under `controller_config()`.
    """

    def __init__(self, env: Any) -> None:
        self._robot = robot = env.robots[0]
        self.model: mujoco.MjModel = env.sim.model._model
        self.data: mujoco.MjData = env.sim.data._data
        self._site: int = robot.eef_site_id
        self._hand: int = env.sim.model.body_name2id(robot.robot_model.eef_name)
        self._arm = np.array(robot._ref_joint_vel_indexes, np.int64)
        self._arm_ctrl = np.array(robot._ref_joint_actuator_indexes)
        self._finger_ctrl = np.array(robot._ref_joint_gripper_actuator_indexes)
        self._finger_qpos = np.array(robot._ref_gripper_joint_pos_indexes)
        self._torque_limits = tuple(np.array(limit) for limit in robot.torque_limits)
        low, high = np.array(self.model.actuator_ctrlrange[self._finger_ctrl]).T
        self._finger_bias, self._finger_weight = 0.5 * (high + low), 0.5 * (high - low)
        self._substeps = int(env.control_timestep / env.model_timestep)
        self._jac_pos, self._jac_ori = np.zeros((2, 3, self.model.nv))
        self._mass = np.zeros((self.model.nv, self.model.nv))
        self.take_over()

    def take_over(self) -> None:
        """Copies the controller's variables from robosuite, after one `env.step` of robosuite.

        Not right after `env.reset`: there robosuite's controller still has the mass matrix from
        before the objects were placed, and uses it once more.
        """
        self._controller = self._robot.controller
        self._goal_ori = np.array(self._controller.goal_ori)
        self._posture = np.array(self._controller.initial_joint)
        self._gripper = np.array(self._robot.gripper.current_action)

    def save(self) -> dict[str, np.ndarray]:
        """Everything that physics and controller need for the next control step, about 2 kB."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return {
            "mujoco": state,
            "goal_ori": self._goal_ori.copy(),
            "posture": self._posture.copy(),
            "gripper": self._gripper.copy(),
            **{f"seen_{name}": array for name, array in vars(self.seen).items()},
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes to a state that `save` returned, in any process with the same model."""
        mujoco.mj_setState(self.model, self.data, arrays["mujoco"], _STATE)
        self._goal_ori = arrays["goal_ori"].copy()
        self._posture = arrays["posture"].copy()
        self._gripper = arrays["gripper"].copy()
        self.seen = Seen(**{f.name: arrays[f"seen_{f.name}"] for f in fields(Seen)})
        self.look()

    def look(self) -> None:
        """Brings poses, cameras and velocities up to the present state; changes no state."""
        mujoco.mj_step1(self.model, self.data)

    def act(self, action: np.ndarray) -> None:
        """Executes float64[7] in [-1, 1] for one control step: translation, rotation, +1 closes.

        `look` must have been called on this state.
        """
        data, rotation = self.data, self.data.site_xmat[self._site].reshape(3, 3)
        delta = self._controller.scale_action(action[:6])
        if np.any(delta[3:]):
            self._goal_ori = control_utils.set_goal_orientation(delta[3:], rotation)
        goal_pos = data.site_xpos[self._site] + delta[:3]
        finger_step = _FINGER_SPEED * np.sign(action[6])
        for substep in range(self._substeps):
            if substep:
                mujoco.mj_step1(self.model, data)
            data.ctrl[self._arm_ctrl] = self._torques(goal_pos, rotation)
            self._gripper = np.clip(self._gripper + finger_step, -1.0, 1.0)
            data.ctrl[self._finger_ctrl] = self._finger_bias + self._finger_weight * self._gripper
            qpos = data.qpos.copy()
            mujoco.mj_step2(self.model, data)
            if substep == self._substeps - 2:
                self.seen = self._sense(qpos)

    def _sense(self, qpos: np.ndarray) -> Seen:
        """What sensors read right after `mj_step2`: poses are still those of `qpos`, before it."""
        data = self.data
        return Seen(
            qpos=qpos,
            position=data.site_xpos[self._site].copy(),
            quat=data.xquat[self._hand].copy(),
            fingers=data.qpos[self._finger_qpos],
        )

    def _torques(self, goal_pos: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        data = self.data
        mujoco.mj_jacSite(self.model, data, self._jac_pos, self._jac_ori, self._site)
        mujoco.mj_fullM(self.model, self._mass, data.qM)
        torques = _arm_torques(
            self._jac_pos, self._jac_ori, self._mass, data.qpos, data.qvel, data.qfrc_bias,
            self._arm, data.site_xpos[self._site], rotation, goal_pos, self._goal_ori,
            self._posture, self._controller.kp, self._controller.kd,
        )  # fmt: skip
        return np.clip(torques, *self._torque_limits)

    @property
    def position(self) -> np.ndarray:
        """float64[3], m: the point between the finger pads, world frame."""
        return self.data.site_xpos[self._site].copy()

    @property
    def rotation(self) -> np.ndarray:
        """float64[3, 3]: orientation of the hand, world frame."""
        return self.data.xmat[self._hand].reshape(3, 3).copy()

    @property
    def fingers(self) -> np.ndarray:
        """float64[2], m: finger joints (+q, -q); 0.04 is open, 0 closed."""
        return self.data.qpos[self._finger_qpos]
