"""Inpainting of a chunk whose first actions are decided already: real-time chunking.

While a robot executes one chunk, the next one is computed. The new chunk must begin with what is
executed meanwhile, and should not depart at once from the rest of the old one.

Source: real-time chunking (arXiv 2506.07339), equations 2 to 5 and algorithm 1. Its time runs from
noise at 0, ours from noise at 1, so its tau is 1 - t, and its velocity is minus ours. Other than
there, frozen actions are not only led towards their values: they are given, so that they are kept.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.model.flow import Velocity, euler

MAX_PULL = 5.0
"""Largest weight of the pull towards the old chunk: beta of the paper."""

FROZEN = 1.0
"""The weight of an action that must be kept; all others have less."""


class OldChunk(NamedTuple):
    """The chunk that a new one continues.

    Attributes:
        actions: float32[b, H, d], normalised; the first is of the new chunk's first moment. Where
            the weight is 0 it has no effect.
        weight: float32[b, H], of `soft_mask`.
    """

    actions: jax.Array | np.ndarray
    weight: jax.Array | np.ndarray


def soft_mask(frozen: int, remaining: int, horizon: int) -> np.ndarray:
    """How much each action of the new chunk shall agree with the old one (equation 5).

    Args:
        frozen: actions that are executed before the new chunk is there; weight `FROZEN`.
        remaining: actions that the old chunk has, the frozen ones included; behind them weight 0,
            and between the two a weight that falls exponentially.
        horizon: H.

    Returns:
        float32[H].
    """
    step = np.arange(horizon)
    left = np.clip((remaining - step) / (remaining - frozen + 1), 0.0, 1.0)
    falling = left * np.expm1(left) / np.expm1(1.0)
    return np.where(step < frozen, FROZEN, falling).astype(np.float32)


def inpainted(velocity: Velocity, noise: jax.Array, old: OldChunk) -> Velocity:
    """A velocity that leads to chunks that continue old ones, in one row per observation.

    Args:
        velocity: of the policy.
        noise: float32[b, 1, H, d], x at t = 1.
        old: what is continued; frozen actions end as they are there, to rounding.

    Returns:
        A velocity that costs one forward and one backward pass of `velocity`.
    """
    decided, weight = (jnp.asarray(x)[:, None] for x in old)  # [b, 1, H, d], [b, 1, H]
    weight = weight[..., None]  # [b, 1, H, 1]

    def pulled(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Velocity of x_t [b, 1, H, d] at time [b, 1]."""
        t = time[..., None, None]  # [b, 1, 1, 1]

        def outcome(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The chunk at t = 0 if the velocity stayed as it is, and the velocity."""
            v = velocity(x, time)
            return x - t * v, v

        clean, to_x, v = jax.vjp(outcome, x_t, has_aux=True)
        (pull,) = to_x(weight * (decided - clean))  # [b, 1, H, d]
        # (1 - tau) / (tau r^2) of the paper; infinite at t = 1, where the largest one holds.
        strength = (jnp.square(1 - t) + jnp.square(t)) / jnp.maximum((1 - t) * t, 1e-9)
        v = v - jnp.minimum(strength, MAX_PULL) * pull
        # The straight path from the noise to what is decided.
        return jnp.where(weight == FROZEN, noise - decided, v)

    return pulled


def integrate(
    velocity: Velocity, noise: jax.Array, num_flow_steps: jax.Array | int, old: OldChunk | None
) -> jax.Array:
    """Integrates one row per observation from noise to chunks, which may continue old ones.

    Args:
        velocity: of the policy.
        noise: float32[b, H, d], x at t = 1.
        num_flow_steps: steps from noise to actions.
        old: what is continued; None for nothing.

    Returns:
        float32[b, H, d].
    """
    rows = noise[:, None]  # [b, 1, H, d]
    if old is not None:
        velocity = inpainted(velocity, rows, old)
    return euler(velocity, rows, num_flow_steps)[:, 0]
