"""The chunk loop that every simulator shares: step, ask for success, look once at the end.

Axis letters: t control step, f video frame, c camera, h height, w width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from pi0_jax.env.base import Boundary, SimState
from pi0_jax.episode import RawObs

ACTION_DIM = 7
PROPRIO_DIM = 8


class SteppedSimulator(ABC):
    """A `base.Simulator` made of single steps. Subclasses are final.

    Attributes:
        instruction: given to the policy.
    """

    instruction: str

    @abstractmethod
    def save(self) -> SimState:
        """The present state as a value."""

    @abstractmethod
    def load(self, state: SimState) -> None:
        """Makes `state` the present one, whatever was before."""

    @abstractmethod
    def step(self, action: np.ndarray) -> bool:
        """One control step of float[7] in [-1, 1]; returns success."""

    @abstractmethod
    def proprio(self) -> np.ndarray:
        """float32[8] of the present state, as in `RawObs`."""

    @abstractmethod
    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3] of the present state, as in `RawObs`."""

    @abstractmethod
    def video_frame(self) -> np.ndarray:
        """uint8[h, w, 3], upright, for people to see."""

    def run(self, state: SimState, actions: np.ndarray, frame_every: int = 0) -> Boundary:
        """Executes float32[t, 7] actions from `state`; renders once, at the end.

        Stops early at success. With `frame_every` n > 0 a video frame is taken after every n-th
        step, and after the one that succeeds.

        Raises:
            ValueError: actions are not finite or have another shape.
        """
        actions = np.asarray(actions)
        if actions.ndim != 2 or actions.shape[1] != ACTION_DIM or not np.isfinite(actions).all():
            raise ValueError(f"expected finite actions [t, {ACTION_DIM}], got {actions.shape}")
        self.load(state)
        proprio, executed, frames, success = [], [], [], False
        for count, action in enumerate(np.clip(actions, -1, 1).astype(np.float32), start=1):
            proprio.append(self.proprio())
            executed.append(action)
            success = self.step(action)
            if frame_every and (success or count % frame_every == 0):
                frames.append(self.video_frame())
            if success:
                break
        return self.boundary(proprio, executed, frames, success)

    def boundary(
        self,
        proprio: Sequence[np.ndarray] = (),
        actions: Sequence[np.ndarray] = (),
        frames: Sequence[np.ndarray] = (),
        success: bool = False,
    ) -> Boundary:
        """The present state as the end of a chunk; looks unless the episode is over."""
        obs = None
        if not success:
            obs = RawObs(self.images(), self.proprio(), self.instruction)
        return Boundary(
            state=self.save(),
            obs=obs,
            success=success,
            proprio=np.array(proprio, np.float32).reshape(-1, PROPRIO_DIM),
            actions=np.array(actions, np.float32).reshape(-1, ACTION_DIM),
            frames=np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8),
        )
