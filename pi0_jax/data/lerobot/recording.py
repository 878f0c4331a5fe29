"""One episode of a LeRobot folder: its tables in memory, its pictures still on disk.

Axis letters: t control step, c camera, s state, e action dimension.
"""

from dataclasses import dataclass, field

import numpy as np

from pi0_jax.data.lerobot.frame_cache import FrameCache
from pi0_jax.data.lerobot.pictures import Pictures
from pi0_jax.episode import RawObs
from pi0_jax.pictures import resize_with_pad


@dataclass(frozen=True)
class Recording:
    """One episode, with its pictures still on disk.

    Attributes:
        prompts: t instructions; nearly always the same one.
        state: float32[t, s], before each action.
        actions: float32[t, e].
        pictures: one reader per camera, c in all.
        number: of the episode in its folder.
        seconds: float64[t], when each step was recorded; empty if it was not read.
        success: 1.0 if the episode solved its task, else 0.0; None where the folder does not say.
        advantage: of the episode against others from its initial state; None likewise.
        picture_is_new: bool[t], False where the pictures are those of an earlier step; None where
            every step has its own.
        cache: keeps decoded frames; None for none.
        first_frame: the number of the first step's frame there.
    """

    prompts: tuple[str, ...]
    state: np.ndarray
    actions: np.ndarray
    pictures: tuple[Pictures, ...]
    number: int = 0
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    success: float | None = None
    advantage: float | None = None
    picture_is_new: np.ndarray | None = None
    cache: FrameCache | None = None
    first_frame: int = 0

    def __len__(self) -> int:
        """Number of control steps t."""
        return len(self.actions)

    def starts(self, horizon: int, *, skip_short: bool) -> np.ndarray:
        """The steps at which windows of H steps may start, int[n], ascending: those with a picture.

        Args:
            horizon: number of actions H per window.
            skip_short: leave out windows that reach past the end of the episode.
        """
        steps = np.arange(max(0, len(self) - (horizon - 1 if skip_short else 0)))
        return steps if self.picture_is_new is None else steps[self.picture_is_new[: len(steps)]]

    def observation(self, step: int, size: int) -> RawObs:
        """What the robot saw before control step `step`; reads its pictures.

        Args:
            step: from 0.
            size: side [px] of the network's images; the cameras' own sizes may differ.
        """

        def decode() -> np.ndarray:
            """The pictures of all cameras, uint8[c, size, size, 3]."""
            return np.stack([resize_with_pad(one.read(step), size) for one in self.pictures])

        number = self.first_frame + step
        images = decode() if self.cache is None else self.cache.get(number, size, decode)
        return RawObs(images, self.state[step], self.prompts[step])
