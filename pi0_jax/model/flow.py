"""Flow matching and guidance as pure functions of a velocity function (arXiv 2210.02747).

Convention of openpi, opposite to the pi0 paper's: t = 1 is noise, t = 0 is the action chunk, and
integration goes from 1 to 0.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Velocity = Callable[[jax.Array, jax.Array], jax.Array]
"""(x_t [b, r, H, d], time [b, r]) -> velocity [b, r, H, d]."""


def sample_time(rng: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Flow times, Beta(1.5, 1) * 0.999 + 0.001 (pi0, arXiv 2410.24164, appendix B).

    Beta(a, 1) has the distribution function t^a; its inverse makes exact samples of uniform ones.
    """
    return jax.random.uniform(rng, shape) ** (1 / 1.5) * 0.999 + 0.001


def interpolate(actions: jax.Array, noise: jax.Array, time: jax.Array) -> jax.Array:
    """Mixes noise into actions: x_t = t noise + (1 - t) actions, float32[b, r, H, d].

    Args:
        actions: float32[b, r, H, d].
        noise: float32[b, r, H, d].
        time: float32[b, r].
    """
    t = time[..., None, None]  # [b, r, 1, 1]
    return t * noise + (1 - t) * actions


def matching_error(velocity: jax.Array, actions: jax.Array, noise: jax.Array) -> jax.Array:
    """Squared error against the target `noise - actions`, mean over d: float32[b, r, H]."""
    return jnp.mean(jnp.square(velocity - (noise - actions)), axis=-1)


def masked_mean(error: jax.Array, mask: jax.Array, weight: jax.Array | float = 1.0) -> jax.Array:
    """Mean over real action steps: sum(weight * mask * error) / sum(mask).

    The weight is not in the denominator. Windows of weight 0 still count there, so a batch with
    few positive windows has a small loss instead of a noisy one.

    Args:
        error: float32[b, r, H].
        mask: bool[b, H].
        weight: float32[b] or a number.

    Returns:
        float32 scalar.
    """
    counted = jnp.broadcast_to(mask[:, None].astype(jnp.float32), error.shape)  # [b, r, H]
    weighted = jnp.reshape(jnp.asarray(weight, jnp.float32), (-1, 1, 1)) * error  # [b, r, H]
    # At least 1: a batch without any real step gives 0, not NaN.
    return jnp.sum(weighted * counted) / jnp.maximum(jnp.sum(counted), 1.0)


def guide(uncond: jax.Array, cond: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Mixes two velocities of one shape: uncond + scale (cond - uncond).

    Classifier-free guidance (arXiv 2207.12598): scale 0 gives `uncond`, 1 gives `cond`.
    """
    return uncond + scale * (cond - uncond)


def euler(velocity: Velocity, noise: jax.Array, num_flow_steps: jax.Array | int) -> jax.Array:
    """Integrates from noise (t = 1) to an action chunk (t = 0) in equal Euler steps.

    Args:
        velocity: velocity field.
        noise: float32[b, r, H, d], x at t = 1.
        num_flow_steps: number of steps, traced or not; another number does not compile again.

    Returns:
        float32[b, r, H, d], x at t = 0.
    """
    dt = -1.0 / jnp.asarray(num_flow_steps, jnp.float32)

    def step(k: jax.Array, x: jax.Array) -> jax.Array:
        """Euler step k: x [b, r, H, d] at time 1 + k dt."""
        # From k, not by adding up dt: rounding errors do not accumulate in the time.
        time = jnp.full(x.shape[:2], 1.0 + k * dt)
        return x + dt * velocity(x, time)

    return jax.lax.fori_loop(0, num_flow_steps, step, noise)
