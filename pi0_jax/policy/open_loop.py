"""Open-loop error: how far predicted chunks lie from recorded ones, dimension by dimension.

It needs no simulator. It tells a policy that has not learnt from one that has, and overfitting from
progress; it does not tell how often a robot succeeds.

Axis letters: n window, H action horizon, e action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_jax.data.held_out import JudgedSteps
from pi0_jax.policy.policy import Policy

_NEAR = (
    10  # of the steps of a chunk at which its errors are told; the others are the first and last
)


@dataclass(frozen=True)
class OpenLoop:
    """Errors of a policy against recorded chunks.

    Attributes:
        at: steps of a chunk, counted from 1, such as (1, 10, 50).
        errors: float64[len(at), e], mean distance to the recorded action at each of these steps, in
            the robot's units; NaN where no chunk is so long.
        relative: mean distance over all steps and dimensions, each in standard deviations of the
            recorded actions: 0 is perfect, about 0.8 is what the mean action would have.
    """

    at: tuple[int, ...]
    errors: np.ndarray
    relative: float


def told_steps(horizon: int) -> tuple[int, ...]:
    """The steps of a chunk at which errors are told: 1, 10 and the last."""
    return tuple(sorted({1, min(_NEAR, horizon), horizon}))


def predict(policy: Policy, steps: JudgedSteps) -> np.ndarray:
    """The chunks that a policy predicts, float32[n, H, e]; window i has the noise of seed i."""
    count = len(steps.observations)
    return policy.act_seeded(steps.observations, [(number,) for number in range(count)])


def open_loop(predicted: np.ndarray, steps: JudgedSteps, scale: np.ndarray) -> OpenLoop:
    """Compares predicted chunks float[n, H, e] with recorded ones.

    Args:
        predicted: in the robot's units.
        steps: the windows.
        scale: float[e], standard deviation of the recorded actions; a dimension that never moves
            (0) has no part in the relative error.
    """
    distance = np.abs(predicted.astype(np.float64) - steps.actions)  # [n, H, e]
    distance = np.where(steps.mask[:, :, None], distance, np.nan)
    at = told_steps(distance.shape[1])
    moves = scale > 0
    relative = distance[:, :, moves] / scale[moves]
    return OpenLoop(at, np.array([_mean(distance[:, step - 1]) for step in at]), _all(relative))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is not NaN, NaN where nothing is: float[n, e] to float64[e]."""
    known = np.isfinite(values)
    count = known.sum(0)
    sums = np.where(known, values, 0.0).sum(0)
    return np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)


def _all(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def scale_of(actions: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation of the actions of some episodes, float[t, e] each: float64[e]."""
    return np.concatenate(actions).astype(np.float64).std(0)
