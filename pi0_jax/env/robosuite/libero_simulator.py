"""The simulator of `libero.LiberoTask`; runs in a worker process.

LIBERO's own loop observes a control step one physics step (2 ms) before its end: pictures, hand
position and fingers. Published checkpoints were trained on these observations, so they are the same
here, to the pixel (tests/test_libero.py). The state value contains what they need.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from pi0_jax.env.base import ChunkResult, SimState
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite import libero_demonstrator, libero_files
from pi0_jax.env.robosuite.libero import OWN_STATES, SETTLE_STEPS, LiberoTask
from pi0_jax.env.robosuite.libero_import import libero_with
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.panda_simulator import (
    PandaSimulator,
    environment_options,
    without_sensors,
)
from pi0_jax.env.robosuite.rendering import ExactPictures, Pictures
from pi0_jax.env.seed_words import seed_words

# Arrays of the model that change: fixtures are moved at the start of an episode, and burners glow
# when they are turned on.
_MODEL_ARRAYS = ("body_pos", "body_quat", "site_rgba")
_DRAWS = 100  # of an initial state; one draw is nearly always enough


class LiberoSimulator(PandaSimulator[LiberoTask]):
    """One LIBERO task: a `base.Simulator` and a `demonstrator.DemonstratorSimulator`."""

    def __init__(self, task: LiberoTask) -> None:
        super().__init__(task)
        self._own_states = libero_files.initial_states(task.suite, task.file_name)
        self._env = make_environment(task, has_offscreen_renderer=False, use_camera_obs=False)
        built = self._env.model.get_model(mode="mujoco")
        self._built = {name: getattr(built, name).copy() for name in _MODEL_ARRAYS}
        np.random.seed(0)
        _reset(self._env)
        without_sensors(self._env)
        self._arm = PandaArm(self._env)
        self._seen = mujoco.MjData(self._arm.model)
        kind = ExactPictures if task.pictures == "exact" else Pictures
        self._pictures = kind(self._arm.model, task.robot.cameras, task.image_size)

    def start(self, seed: int) -> ChunkResult:
        """Initial state `seed` (`libero.py` explains the numbers), settled (t = 0).

        Where objects are placed anew, the goal may hold before anything is done: a bowl beside the
        plate comes to lie on its rim. Such a placement is drawn again.

        Raises:
            RuntimeError: the goal holds in every placement.
        """
        self.task.check_state(seed)
        # The only generator that robosuite and LIBERO draw from.
        np.random.seed(seed_words(seed))
        for _ in range(_DRAWS):
            placed = self._placed(seed)
            if seed < OWN_STATES or not self._solved():
                return placed
        raise RuntimeError(
            f"{self.task.name}: the goal holds in each of {_DRAWS} placements from seed {seed}, "
            "before anything is done"
        )

    def _solved(self) -> bool:
        return super()._judge()

    def _placed(self, seed: int) -> ChunkResult:
        """One of the benchmark's own states, or the next placement of the generator."""
        self._env.robots[0].gripper.current_action = np.zeros(2)  # soft resets forget it
        # An object on a fixture is placed relative to the fixture's place in the model, and LIBERO
        # builds a new model for every episode: go back to the model as it was built.
        for name, array in self._built.items():
            getattr(self._arm.model, name)[:] = array
        _reset(self._env)
        if seed < OWN_STATES:
            self._env.sim.set_state_from_flattened(self._own_states[seed])
        self._env.sim.forward()
        self._env._post_process()
        return self._settled(SETTLE_STEPS)

    def _judge(self) -> bool:
        """LIBERO's own goal predicate; then burners are turned on or off, which is seen later."""
        self._seen_rgba = self._arm.model.site_rgba.copy()
        success = super()._judge()
        self._env._post_process()
        return success

    def proprio(self) -> np.ndarray:
        """float32[8], as LIBERO observes it: position [m], raw axis-angle [rad], fingers [m]."""
        seen = self._arm.seen
        return np.concatenate([seen.position, axis_angle(seen.quat), seen.fingers], dtype="f4")

    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3], as LIBERO renders them."""
        return self._pictured(self._pictures.observe)

    def video_frame(self) -> np.ndarray:
        """uint8[h, w, 3] of the first camera, upright."""
        return self._pictured(self._pictures.video_frame)

    def _pictured(self, render: Any) -> np.ndarray:
        """Renders the scene as it was one physics step before the end, by `render`."""
        model, data = self._arm.model, self._seen
        data.qpos[:] = self._arm.seen.qpos
        # Only what a picture needs is computed from qpos: poses, centres, cameras and lights.
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        now = model.site_rgba.copy()
        model.site_rgba[:] = self._seen_rgba
        picture = render(data)
        model.site_rgba[:] = now
        return picture

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Actions float64[7] that do the task with the quality that `style` sets.

        Raises:
            InputError: there is no demonstrator of this task.
        """
        self.task.check_demonstrator()
        return libero_demonstrator.actions(self._env, self._arm, style, rng)

    def load(self, state: SimState) -> None:
        """Goes to `state`."""
        for name in _MODEL_ARRAYS:
            getattr(self._arm.model, name)[:] = state.arrays[name]
        self._seen_rgba = state.arrays["seen_rgba"].copy()
        self._arm.load(state.arrays)

    def save(self) -> SimState:
        """The present state as a value."""
        fixed = {name: getattr(self._arm.model, name).copy() for name in _MODEL_ARRAYS}
        return SimState({**self._arm.save(), **fixed, "seen_rgba": self._seen_rgba.copy()})


def axis_angle(quat: np.ndarray) -> np.ndarray:
    """float64[3] rad of float64[4] (w, x, y, z), as openpi's LIBERO example computes it.

    The angle may be above pi. A hand that hangs down has w near 0, and a fixed sign of w would turn
    a state that checkpoints know into its negative.
    """
    w = np.clip(quat[0], -1.0, 1.0)
    length = np.sqrt(1.0 - w * w)
    if np.isclose(length, 0.0):
        return np.zeros(3)
    return quat[1:] * 2.0 * np.arccos(w) / length


def make_environment(task: LiberoTask, **options: Any) -> Any:
    """LIBERO's own environment of a task, with soft resets.

    Args:
        task: the task to build.
        options: further options of robosuite's environment.
    """
    from robosuite import load_controller_config

    goal = str(libero_files.goal_file(task.suite, task.file_name))
    with libero_with(task.assets) as envs:
        problem = envs.bddl_utils.get_problem_info(goal)["problem_name"]
        return envs.TASK_MAPPING[problem](
            bddl_file_name=goal,
            robots=["Panda"],
            controller_configs=load_controller_config(default_controller="OSC_POSE"),
            gripper_types="default",
            initialization_noise=None,
            **environment_options(task.robot.cameras, task.image_size),
            **options,
        )


def _reset(env: Any) -> None:
    """Places fixtures and objects by NumPy's global generator."""
    from robosuite.utils.errors import RandomizationError

    while True:
        try:
            env.reset()
        except RandomizationError:
            continue  # no room for an object: LIBERO's own wrapper draws again too
        return
