"""Flow-SDE: Euler steps with noise of a known size, so that an action chunk has a likelihood.

Every step of the flow becomes a normal distribution, x[k+1] ~ N(mean, std^2), whose drift is
corrected so that x keeps, up to the length of a step, the distribution that it has in the plain
flow. K steps of length dt = 1/K at the times t = 1 - k dt; t = 1 is noise, t = 0 the chunk:

    x0 = x - t v,   x1 = x + (1 - t) v              the chunk and the noise that v predicts
    s^2 = level^2 t / (1 - t)                       the first step, at t = 1, divides by dt instead
    mean = (1 - t + dt) x0 + (t - dt - s^2 dt / (2 t)) x1
    std = s sqrt(dt)

Sources: Flow-GRPO (arXiv 2505.05470), pi_RL (arXiv 2510.25889) and its code, RLinf.

Axis letters: b batch, r suffix row, K flow steps, H action horizon, d action dimension.
"""

import math

import jax
import jax.numpy as jnp

from pi0_jax.model.flow import Velocity

Level = jax.Array | float
"""How much noise the steps have: one number, or float32[d], one per action dimension."""


def step_time(k: jax.Array, num_flow_steps: int) -> jax.Array:
    """The flow time before step k, float32 of the shape of int32 `k`."""
    return 1.0 - k / jnp.float32(num_flow_steps)


def transition(
    x: jax.Array, velocity: jax.Array, k: jax.Array, num_flow_steps: int, level: Level
) -> tuple[jax.Array, jax.Array]:
    """The normal distribution of x after step k.

    Args:
        x: float32[b, r, H, d] before the step.
        velocity: float32[b, r, H, d] at x.
        k: int32[b, r], number of the step, from 0.
        num_flow_steps: steps K from noise to chunk.
        level: how much noise; 0 is Euler's method.

    Returns:
        Mean float32[b, r, H, d], and the standard deviation of every number in it, float32[b, r, 1,
        1], or [b, r, 1, d] where the dimensions have levels of their own.
    """
    k = k[..., None, None]  # [b, r, 1, 1]
    dt, t = 1.0 / num_flow_steps, step_time(k, num_flow_steps)
    # At t = 1 the exact noise has no bound: the first step takes that of the second's 1 - t = dt.
    noise = jnp.square(level) * t / jnp.where(k == 0, dt, 1.0 - t)  # s^2, [b, r, 1, 1 or d]
    to_chunk, to_noise = 1.0 - t + dt, t - dt - noise * dt / (2.0 * t)
    mean = to_chunk * (x - t * velocity) + to_noise * (x + (1.0 - t) * velocity)
    return mean, jnp.sqrt(noise * dt)


def log_density(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Logarithm of the normal density of every number by itself.

    Args:
        x: float32[b, r, H, d].
        mean: float32[b, r, H, d].
        std: float32[b, r, 1, 1 or d], as of `transition`.

    Returns:
        float32[b, r, H, d].
    """
    return -0.5 * jnp.square((x - mean) / std) - jnp.log(std) - 0.5 * math.log(2 * math.pi)


def sample_chain(velocity: Velocity, noise: jax.Array, level: Level) -> tuple[jax.Array, jax.Array]:
    """Draws a chunk step by step, and keeps what lies between noise and chunk.

    Args:
        velocity: velocity field.
        noise: float32[b, K + 1, H, d], standard normal: x at t = 1, then the noise of each step.
        level: how much noise the steps have, above 0.

    Returns:
        x float32[b, K + 1, H, d] from noise to chunk, and the log density of each step's result
        float32[b, K, H, d].
    """
    steps = noise.shape[1] - 1

    def step(x: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple]:
        """Step k: x [b, 1, H, d], its noise [b, H, d]."""
        k, drawn = at
        ks = jnp.full(x.shape[:2], k)
        mean, std = transition(x, velocity(x, step_time(ks, steps)), ks, steps, level)
        x = mean + std * drawn[:, None]
        return x, (x[:, 0], log_density(x, mean, std)[:, 0])

    # Step by step: [b, K, H, d] -> [K, b, H, d], and back.
    each = jnp.arange(steps), jnp.swapaxes(noise[:, 1:], 0, 1)
    _, (xs, densities) = jax.lax.scan(step, noise[:, :1], each)
    xs, densities = (jnp.swapaxes(stacked, 0, 1) for stacked in (xs, densities))
    return jnp.concatenate([noise[:, :1], xs], axis=1), densities
