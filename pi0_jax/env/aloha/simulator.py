"""What both simulators of ALOHA share: gym-aloha's control step, bit for bit, and its picture.

gym-aloha renders three cameras at 640 x 480 in every step and goes through dm_control; here its
model is stepped by MuJoCo alone, and a picture is drawn where somebody looks.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from abc import abstractmethod
from collections.abc import Sequence

import mujoco
import numpy as np

from pi0_jax.env.aloha.package import assets
from pi0_jax.env.aloha.pictures import TopPictures
from pi0_jax.env.aloha.tasks import COARSE, AlohaTask
from pi0_jax.env.base import ChunkResult, SimState
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.seed_words import seed_words
from pi0_jax.env.stepping import SteppedSimulator

LEFT, RIGHT = slice(0, 6), slice(7, 13)
"""Places of the joints of each arm in an action and a state; its gripper is behind them."""

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_ARMS = 16  # joints of both arms: six and two fingers each
_JOINTS = np.r_[0:6, 8:14]  # those that actions and states name one by one
_ACTION_JOINTS = np.r_[LEFT, RIGHT]
_GRIPPERS = np.array([6, 13])
_FINGERS = np.array([6, 14])  # the left finger of each hand; the right one mirrors it
_CLOSED_M, _OPEN_M = 0.01844, 0.05800  # of a finger: gripper values of 0 and 1
# gym-aloha's START_ARM_POSE: joints [rad] and fingers [m] of one arm; the fingers touch.
_START = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.02239, -0.02239])
_CONTROL_S = 0.02
_JOINT_NOISE_RAD = 0.1  # an action of 1 moves the Panda 5 cm; so does this, at half a metre


class AlohaSimulator(SteppedSimulator[AlohaTask]):
    """One of gym-aloha's tasks: a `base.Simulator` and a `demonstrator.DemonstratorSimulator`.

    Its model is that of a file of gym-aloha, and MuJoCo's derived quantities (poses, contacts)
    belong to the present state between calls.

    Args:
        task: the task.
        scene: name of the model's file.

    Raises:
        InputError: gym-aloha is not installed.
    """

    def __init__(self, task: AlohaTask, scene: str) -> None:
        super().__init__(task)
        self.model = mujoco.MjModel.from_xml_path(str(assets() / scene))
        self.data = mujoco.MjData(self.model)
        self._substeps = round(_CONTROL_S / self.model.opt.timestep)
        self._pictures = TopPictures(self.model, task.image_height, coarse=task.pictures == COARSE)

    @abstractmethod
    def place(self, seed: int | Sequence[int]) -> np.ndarray:
        """float64[7 per object]: positions [m] and quaternions, as gym-aloha draws them."""

    @abstractmethod
    def solved(self, touching: set[tuple[str, str]]) -> bool:
        """gym-aloha's reward of 4, from the pairs of geoms that touch."""

    def start(self, seed: int) -> ChunkResult:
        """The initial state of gym-aloha's `reset(seed)`; renders once (t = 0)."""
        data = self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[:_ARMS] = data.ctrl[:] = np.tile(_START, 2)
        data.qpos[_ARMS:] = self.place(seed_words(seed))
        # As dm_control ends a reset: one pass with the motors off.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        mujoco.mj_forward(self.model, data)
        self.model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        return self.boundary()

    def step(self, action: np.ndarray) -> bool:
        """20 ms with float[14] joint positions as goals of the motors; returns success."""
        arms = np.zeros(_ARMS)
        arms[_JOINTS] = action[_ACTION_JOINTS]
        arms[_FINGERS] = action[_GRIPPERS] * (_OPEN_M - _CLOSED_M) + _CLOSED_M
        arms[_FINGERS + 1] = -arms[_FINGERS]
        self.data.ctrl[:] = arms
        # Poses and contacts are those of the present state, so the first step is half done.
        mujoco.mj_step2(self.model, self.data)
        mujoco.mj_step(self.model, self.data, self._substeps - 1)
        mujoco.mj_step1(self.model, self.data)
        return self.solved(self._touching())

    def proprio(self) -> np.ndarray:
        """float32[14] of the present state, as gym-aloha's `agent_pos`."""
        state = np.empty(len(self.task.robot.state))
        state[_ACTION_JOINTS] = self.data.qpos[_JOINTS]
        state[_GRIPPERS] = (self.data.qpos[_FINGERS] - _CLOSED_M) / (_OPEN_M - _CLOSED_M)
        return state.astype(np.float32)

    def images(self) -> np.ndarray:
        """uint8[1, h, w, 3], w = 4/3 h: seen from above, upright, as in gym-aloha."""
        return self._pictures.observe(self.data)

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[14]: the style's noise on every joint, none on the grippers."""
        noise = np.zeros(len(self.task.robot.actions))
        noise[_ACTION_JOINTS] = _JOINT_NOISE_RAD * style.action_noise
        return noise

    def load(self, state: SimState) -> None:
        """Goes to `state`."""
        mujoco.mj_setState(self.model, self.data, state.arrays["mujoco"], _STATE)
        mujoco.mj_step1(self.model, self.data)

    def save(self) -> SimState:
        """The present state as a value."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return SimState({"mujoco": state})

    def close(self) -> None:
        """Frees the GL context."""
        self._pictures.close()

    def _touching(self) -> set[tuple[str, str]]:
        """Names of the geoms that touch, in MuJoCo's order, as gym-aloha compares them."""
        names = [self.model.geom(number).name for number in range(self.model.ngeom)]
        pairs = self.data.contact.geom
        return {(names[one], names[two]) for one, two in pairs.tolist()}
