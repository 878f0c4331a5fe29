"""The chunk that a robot executes while the next one is computed (real-time chunking).

Axis letters: b batch, n remaining action, H action horizon, d padded action dimension, e robot's
action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.model.inpainting import OldChunk, soft_mask


@dataclass(frozen=True)
class Ongoing:
    """What is left of the chunk that is being executed.

    Attributes:
        actions: float[n, e] in the robot's units; the first one begins when the observation is
            taken.
        frozen: how many of them will have been executed when the new chunk is there.
    """

    actions: np.ndarray = field(repr=False)
    frozen: int

    def check(self, horizon: int, dims: int) -> None:
        """Checks that it fits a policy.

        Args:
            horizon: H.
            dims: e.

        Raises:
            InputError: it is longer than a chunk, of other actions, not finite, or nothing is left
                to be decided.
        """
        found = np.asarray(self.actions)
        fits = found.ndim == 2 and found.shape[1] == dims and 1 <= len(found) <= horizon
        if not fits or not np.issubdtype(found.dtype, np.number):
            raise InputError(
                f"an ongoing chunk: expected 1 to {horizon} actions of {dims} numbers, got "
                f"{found.dtype}{list(found.shape)}"
            )
        if not np.isfinite(found).all():
            raise InputError("an ongoing chunk: expected finite actions, got NaN or infinity")
        most = min(len(found), horizon - 1)
        if type(self.frozen) is not int or not 0 <= self.frozen <= most:
            raise InputError(
                f"an ongoing chunk of {len(found)} actions: expected 0 to {most} of them frozen "
                f"(a chunk has {horizon}), got {self.frozen!r}"
            )


def old_chunks(
    ongoing: Sequence[Ongoing], observations: Sequence[RawObs], transforms: Transforms, horizon: int
) -> OldChunk:
    """What the network continues, normalised as its own output.

    Args:
        ongoing: b chunks.
        observations: b observations; relative actions are relative to their states.
        transforms: of the policy.
        horizon: H.

    Returns:
        Host arrays [b, H, d] and [b, H].

    Raises:
        InputError: there is not one per observation, or one does not fit.
    """
    if len(ongoing) != len(observations):
        raise InputError(
            f"expected an ongoing chunk per observation, got {len(ongoing)} for "
            f"{len(observations)} observations"
        )
    for one in ongoing:
        one.check(horizon, len(transforms.robot.actions))
    # The last action again, up to the horizon; there its weight is 0.
    whole = [
        np.concatenate([one.actions, np.repeat(one.actions[-1:], horizon - len(one.actions), 0)])
        for one in ongoing
    ]
    state = np.stack([obs.state for obs in observations])
    weight = [soft_mask(one.frozen, len(one.actions), horizon) for one in ongoing]
    return OldChunk(transforms.actions(np.stack(whole), state), np.stack(weight))


def with_frozen(actions: np.ndarray, ongoing: Sequence[Ongoing]) -> np.ndarray:
    """New chunks float32[b, H, e] that begin with the frozen actions to the bit."""
    kept = actions.copy()
    for chunk, one in zip(kept, ongoing, strict=True):
        chunk[: one.frozen] = one.actions[: one.frozen]
    return kept
