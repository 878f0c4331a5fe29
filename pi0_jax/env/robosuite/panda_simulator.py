"""What the simulators of robosuite's tasks share: the arm's control step, settling, pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pi0_jax.env.base import ChunkResult
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.rendering import ExactPictures, Pictures
from pi0_jax.env.stepping import SteppedSimulator, T

SETTLE = np.array([0.0, 0, 0, 0, 0, 0, -1])
"""The action while objects come to rest: the arm stays, the gripper opens."""


class PandaSimulator(SteppedSimulator[T]):
    """A simulator around a robosuite environment with one Panda, whose steps are `PandaArm`'s."""

    _env: Any
    _arm: PandaArm
    _pictures: Pictures | ExactPictures

    def _settled(self, steps: int) -> ChunkResult:
        """The state after `steps` control steps (at least one) that follow a reset (t = 0)."""
        # The first step is robosuite's own, as `PandaArm.take_over` needs it.
        self._env.step(SETTLE)
        self._arm.take_over()
        self._arm.look()
        for _ in range(steps - 1):
            self.step(SETTLE)
        return self.boundary()

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[7]: noise on three translations and three rotations, none on the gripper."""
        return np.repeat([style.action_noise, style.rotation_noise, 0.0], [3, 3, 1])

    def step(self, action: np.ndarray) -> bool:
        """One control step of float[7] in [-1, 1]; returns the task's own success predicate."""
        self._arm.act(np.asarray(action, np.float64))
        # Checked where robosuite checks it: before the poses of the last 2 ms are up to date.
        success = self._judge()
        self._arm.look()
        return success

    def _judge(self) -> bool:
        """Evaluates the environment's own success predicate, and ends the environment's step."""
        return bool(self._env._check_success())

    def close(self) -> None:
        """Frees the GL contexts."""
        self._pictures.close()


def environment_options(cameras: Sequence[str], image_size: int) -> dict[str, Any]:
    """Options of robosuite's environments: no horizon, soft resets, and these cameras.

    Args:
        cameras: names of the cameras in the model.
        image_size: height and width [px].
    """
    return {
        "control_freq": 20,
        "ignore_done": True,
        "hard_reset": False,
        "camera_names": list(cameras),
        "camera_heights": image_size,
        "camera_widths": image_size,
    }


def without_sensors(env: Any) -> None:
    """Stops robosuite from polling its observables, which are not used here."""
    for observable in env._observables.values():
        observable._enabled = False
