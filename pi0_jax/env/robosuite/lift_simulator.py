"""The simulator of `lift.LiftTask`; runs in a worker process."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from pi0_jax.env.base import ChunkResult, SimState
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.lift import SETTLE_STEPS, LiftTask
from pi0_jax.env.robosuite.lift_demonstrator import lift
from pi0_jax.env.robosuite.panda import PandaArm, controller_config
from pi0_jax.env.robosuite.panda import robosuite as suite
from pi0_jax.env.robosuite.panda_simulator import (
    PandaSimulator,
    environment_options,
    without_sensors,
)
from pi0_jax.env.robosuite.rendering import Pictures
from pi0_jax.env.seed_words import seed_words

_DOWN = np.diag([1.0, -1.0, -1.0])  # orientation of a hand that points straight down


class LiftSimulator(PandaSimulator[LiftTask]):
    """One robosuite Lift: a `base.Simulator` and a `demonstrator.DemonstratorSimulator`."""

    def __init__(self, task: LiftTask) -> None:
        super().__init__(task)
        # robosuite draws the size of the cube when it builds the model: one seed, one size.
        np.random.seed(0)
        self._env = make_environment(task, has_offscreen_renderer=False, use_camera_obs=False)
        without_sensors(self._env)
        self._env.reset()
        self._arm = PandaArm(self._env)
        self._pictures = Pictures(self._arm.model, task.robot.cameras, task.image_size)

    def start(self, seed: int) -> ChunkResult:
        """Places the cube from `seed`, lets it settle, and renders once (t = 0)."""
        # robosuite places objects and the arm with NumPy's global generator.
        np.random.seed(seed_words(seed))
        self._env.robots[0].gripper.current_action = np.zeros(2)  # soft resets forget it
        self._env.reset()
        return self._settled(SETTLE_STEPS)

    def proprio(self) -> np.ndarray:
        """float32[8] of the present state: position [m], axis-angle [rad], fingers [m].

        The rotation is relative to a gripper that points straight down: the raw axis-angle of such
        a gripper has angle pi, where it jumps from v to -v.
        """
        turn = _axis_angle(self._arm.rotation @ _DOWN.T)
        return np.concatenate([self._arm.position, turn, self._arm.fingers]).astype(np.float32)

    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3] of the present state, as in `RawObs`."""
        return self._pictures.observe(self._arm.data)

    def object_position(self, name: str) -> np.ndarray:
        """float64[3], m: centre of the object `name` ("cube"), world frame."""
        return self._arm.data.body(f"{name}_main").xpos.copy()

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Actions float64[7] that lift the cube with the quality that `style` sets."""
        return lift(self, style, rng)

    def video_frame(self) -> np.ndarray:
        """uint8[h, w, 3] with the robot's real meshes, upright."""
        return self._pictures.video_frame(self._arm.data)

    def load(self, state: SimState) -> None:
        """Goes to `state`."""
        self._arm.load(state.arrays)

    def save(self) -> SimState:
        """The present state as a value."""
        return SimState(self._arm.save())


def make_environment(task: LiftTask, **options: Any) -> Any:
    """Robosuite's own environment of a task, without a horizon, with soft resets.

    Args:
        task: the task to build.
        options: further options of robosuite's environment.
    """
    from robosuite.utils.placement_samplers import UniformRandomSampler

    sampler = UniformRandomSampler(
        name="ObjectSampler",
        x_range=[-task.placement, task.placement],
        y_range=[-task.placement, task.placement],
        rotation=None,
        ensure_object_boundary_in_range=False,
        ensure_valid_placement=True,
        reference_pos=np.array([0, 0, 0.8]),  # the table's top
        z_offset=0.01,
    )
    return suite.make(
        "Lift",
        robots="Panda",
        controller_configs=controller_config(),
        placement_initializer=sampler,
        use_object_obs=False,
        **environment_options(task.robot.cameras, task.image_size),
        **options,
    )


def _axis_angle(rotation: np.ndarray) -> np.ndarray:
    """float64[3] rad, angle at most pi, of a rotation matrix float64[3, 3]."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    # q and -q are one rotation; the one with w >= 0 has an angle of at most pi.
    mujoco.mju_quat2Vel(vector, quat if quat[0] >= 0 else -quat, 1.0)
    return vector
