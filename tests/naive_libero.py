"""LIBERO's own loop, as openpi's example runs it: one environment that renders every step."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_jax.env.robosuite import libero_files
from pi0_jax.env.robosuite.libero import SETTLE_STEPS, LiberoTask
from pi0_jax.env.robosuite.libero_simulator import axis_angle, make_environment

KIT = Path(__file__).parent / "libero_assets"
ASSETS = Path(os.environ.get("LIBERO_ASSETS") or KIT)


@dataclass(frozen=True)
class NaiveLoop:
    """A task for the pool whose "simulator" is LIBERO's own environment."""

    task: LiberoTask
    name: str = "naive"

    def build(self):
        return Naive(self.task)


class Naive:
    """LIBERO's environment with its own rendering, in a process of its own."""

    def __init__(self, task: LiberoTask) -> None:
        self.task = task
        self.env = make_environment(task, has_offscreen_renderer=True, use_camera_obs=True)

    def close(self) -> None:
        self.env.close()


def looks(naive: Naive, seed: int, actions: np.ndarray, chunk: int):
    """What is seen at the start and after every chunk: (physics, images, proprio) each."""
    env, task = naive.env, naive.task
    np.random.seed(seed)
    env.robots[0].gripper.current_action = np.zeros(2)
    env.reset()
    env.sim.set_state_from_flattened(libero_files.initial_states(task.suite, task.file_name)[seed])
    env.sim.forward()
    env._post_process()
    env._update_observables(force=True)
    for _ in range(SETTLE_STEPS):
        obs, *_ = env.step(np.array([0.0] * 6 + [-1.0]))
    seen = [_seen(naive, obs)]
    for count, action in enumerate(actions, start=1):
        obs, *_ = env.step(np.asarray(action, np.float64))
        if count % chunk == 0:
            seen.append(_seen(naive, obs))
    return seen


def _seen(naive: Naive, obs):
    images = [obs[f"{camera}_image"][::-1, ::-1] for camera in naive.task.robot.cameras]
    x, y, z, w = obs["robot0_eef_quat"]
    turn = axis_angle(np.array([w, x, y, z]))
    proprio = np.concatenate([obs["robot0_eef_pos"], turn, obs["robot0_gripper_qpos"]])
    data = naive.env.sim.data._data
    physics = np.concatenate([[data.time], data.qpos, data.qvel, data.qacc_warmstart])
    return physics, np.stack(images), proprio.astype(np.float32)
