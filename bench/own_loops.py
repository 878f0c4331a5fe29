"""The simulators' own loops, as others run them: one environment that renders every control step.

This code runs in worker processes; `rollout.py` compares its speed with ours.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false, reportPrivateUsage=false

import time
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from pi0_jax.env.base import ChunkResult, SimState, Task
from pi0_jax.env.robosuite.libero import LiberoTask
from pi0_jax.env.robosuite.lift import LiftTask


class OwnLoop(Protocol):
    """An environment as its authors made it."""

    def begin(self, seed: int) -> Any:
        """Resets to the initial state `seed`, lets objects settle, returns the environment."""
        ...

    def close(self) -> None:
        """Frees the GL context."""
        ...


class Ran(NamedTuple):
    """Cost and result of an episode of an own loop.

    Attributes:
        start_s: wall seconds until the first action.
        wall_s: wall seconds of the control steps.
        cpu_s: CPU seconds of the control steps, all threads of the process together.
        physics: float64[n], the state of the physics at the end (`physics_of`).
    """

    start_s: float
    wall_s: float
    cpu_s: float
    physics: np.ndarray


@dataclass(frozen=True)
class OwnLoopTask:
    """A task for the pool whose "simulator" is an `OwnLoop`."""

    task: Task

    @property
    def name(self) -> str:
        """For messages of the pool."""
        return f"own loop of {self.task.name}"

    def build(self) -> OwnLoop:
        """Builds the environment with its renderer."""
        if isinstance(self.task, LiberoTask):
            return LiberoLoop(self.task)
        assert isinstance(self.task, LiftTask)
        return LiftLoop(self.task)


class LiberoLoop:
    """LIBERO's OffScreenRenderEnv, used as openpi's `examples/libero/main.py` uses it."""

    def __init__(self, task: LiberoTask) -> None:
        from pi0_jax.env.robosuite.libero_files import goal_file, initial_states
        from pi0_jax.env.robosuite.libero_import import libero_with

        self._states = initial_states(task.suite, task.file_name)
        with libero_with(task.assets) as envs:
            self.env = envs.OffScreenRenderEnv(
                bddl_file_name=goal_file(task.suite, task.file_name).as_posix(),
                camera_heights=task.image_size,
                camera_widths=task.image_size,
            )

    def begin(self, seed: int) -> Any:
        """Loads one of the benchmark's own initial states; objects fall for ten steps."""
        self.env.seed(seed)
        self.env.reset()
        self.env.set_init_state(self._states[seed])
        for _ in range(10):
            self.env.step([0.0] * 6 + [-1.0])
        return self.env.env

    def close(self) -> None:
        """Frees the GL context."""
        self.env.close()


class LiftLoop:
    """robosuite's Lift with `use_camera_obs`, with pictures of its own quality."""

    def __init__(self, task: LiftTask) -> None:
        from pi0_jax.env.robosuite.lift_simulator import make_environment

        np.random.seed(0)  # as `LiftSimulator`: the cube's size is drawn when the model is built
        self.env = make_environment(task, has_offscreen_renderer=True, use_camera_obs=True)
        self.env.reset()

    def begin(self, seed: int) -> Any:
        """Places the cube from `seed` and lets it fall."""
        from pi0_jax.env.robosuite.lift_simulator import SETTLE_STEPS
        from pi0_jax.env.robosuite.panda_simulator import SETTLE

        np.random.seed(seed)
        self.env.robots[0].gripper.current_action = np.zeros(2)
        self.env.reset()
        for _ in range(SETTLE_STEPS):
            self.env.step(SETTLE)
        return self.env

    def close(self) -> None:
        """Frees the GL context."""
        self.env.close()


def own_episode(loop: OwnLoop, seed: int, actions: np.ndarray) -> Ran:
    """Job function: an episode of float32[t, 7] actions, every step rendered."""
    begin = time.perf_counter()
    env = loop.begin(seed)
    wall, cpu = time.perf_counter(), time.process_time()
    for action in actions:
        env.step(np.asarray(action, np.float64))
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return Ran(wall - begin, wall_s, cpu_s, physics_of(env.sim.data._data))


def timed_run(simulator: Any, state: SimState, actions: np.ndarray) -> tuple[ChunkResult, float]:
    """Job function: runs a chunk as rollouts do; its result and CPU seconds."""
    cpu = time.process_time()
    result = simulator.run(state, actions)
    return result, time.process_time() - cpu


def loaded_physics(simulator: Any, state: SimState) -> np.ndarray:
    """Job function: `physics_of` one of our states."""
    simulator.load(state)
    return physics_of(simulator._arm.data)


def physics_of(data: Any) -> np.ndarray:
    """float64[n]: time, positions, velocities and the solver's warm start of a mujoco.MjData."""
    return np.concatenate([[data.time], data.qpos, data.qvel, data.qacc_warmstart])
