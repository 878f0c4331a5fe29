"""What the simulators of robosuite's tasks share: an arm that takes over, settling, pictures."""

from typing import Any

import numpy as np

from pi0_jax.env.base import ChunkResult
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.rendering import ExactPictures, Pictures
from pi0_jax.env.stepping import SteppedSimulator, T

SETTLE = np.array([0.0, 0, 0, 0, 0, 0, -1])
"""The action in which objects come to rest: the arm stays, the gripper opens."""


class PandaSimulator(SteppedSimulator[T]):
    """A simulator around a robosuite environment with one Panda, whose steps are `PandaArm`'s."""

    _env: Any
    _arm: PandaArm
    _pictures: Pictures | ExactPictures

    def _settled(self, steps: int) -> ChunkResult:
        """The boundary after some control steps (at least one) behind a reset (t = 0)."""
        self._env.step(SETTLE)
        self._arm.take_over()
        self._arm.look()
        for _ in range(steps - 1):
            self.step(SETTLE)
        return self.boundary()

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[7]: of three translations, three rotations, and none of the gripper."""
        return np.repeat([style.action_noise, style.rotation_noise, 0.0], [3, 3, 1])

    def close(self) -> None:
        """Frees the GL contexts."""
        self._pictures.close()


def without_sensors(env: Any) -> None:
    """Stops robosuite from polling its observables, which nobody reads here."""
    for observable in env._observables.values():
        observable._enabled = False
