"""Inpainting of chunks whose beginning is decided (real-time chunking)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pi0_jax.model import flow
from pi0_jax.model.inpainting import MAX_PULL, OldChunk, inpainted, integrate, soft_mask

H, D = 6, 2


def spread(mean: float, sigma: float) -> flow.Velocity:
    """The exact velocity of actions that are normal, each by itself."""

    def velocity(x: jax.Array, time: jax.Array) -> jax.Array:
        t = time[..., None, None]
        variance = (1 - t) ** 2 * sigma**2 + t**2
        # E[noise - actions | x_t = x]
        return -mean + (t - (1 - t) * sigma**2) / variance * (x - (1 - t) * mean)

    return velocity


def old_chunk(value: float, frozen: int, remaining: int) -> OldChunk:
    weight = soft_mask(frozen, remaining, H)[None]
    return OldChunk(np.full((1, H, D), value, np.float32), weight)


def test_the_mask_is_that_of_the_paper():
    # d = 2, H - s = 4: c of steps 2 and 3 is 2/3 and 1/3.
    two, one = (c * (np.exp(c) - 1) / (np.e - 1) for c in (2 / 3, 1 / 3))
    np.testing.assert_allclose(soft_mask(2, 4, H), [1, 1, two, one, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(soft_mask(0, 1, 3)[1:], 0)
    assert soft_mask(0, 6, 6).max() < 1  # nothing is frozen


def test_the_frozen_prefix_is_kept():
    noise = jax.random.normal(jax.random.key(0), (1, H, D))
    chunk = integrate(spread(0.0, 0.3), noise, 10, old_chunk(0.9, frozen=2, remaining=4))
    np.testing.assert_allclose(chunk[0, :2], 0.9, rtol=1e-6)


def test_what_overlaps_is_pulled_and_the_rest_is_not():
    noise = jax.random.normal(jax.random.key(0), (1, H, D))
    free = integrate(spread(0.0, 0.3), noise, 10, None)[0]
    led = integrate(spread(0.0, 0.3), noise, 10, old_chunk(0.9, frozen=1, remaining=4))[0]
    nearer = jnp.abs(led - 0.9) < jnp.abs(free - 0.9)
    assert nearer[:4].all()
    # The actions of this velocity do not depend on each other.
    np.testing.assert_allclose(led[4:], free[4:], rtol=1e-5, atol=1e-6)
    # The weight falls, and so does the pull.
    distance = jnp.abs(led - 0.9).max(axis=1)
    assert distance[1] < distance[3]


def test_one_step_by_hand():
    """At velocity 3 x the clean chunk is x (1 - 3 t); the pull is w (old - clean) (1 - 3 t)."""
    x, t = jnp.full((1, 1, H, D), 0.5), jnp.full((1, 1), 0.5)
    old = old_chunk(2.0, frozen=1, remaining=3)
    found = inpainted(lambda x, time: 3 * x, jnp.ones((1, 1, H, D)), old)(x, t)[0, 0, :, 0]
    weight, clean = np.asarray(old.weight[0]), 0.5 * (1 - 1.5)
    strength = (0.25 + 0.25) / 0.25  # 2, below the largest one
    wanted = 1.5 - strength * weight * (2.0 - clean) * (1 - 1.5)
    wanted[0] = 1.0 - 2.0  # frozen: from the noise to the old action
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("time", [1.0, 0.999, 0.05])
def test_the_pull_has_a_largest_weight(time):
    """At the ends of the flow the paper's weight is too large for a step."""
    x, t = jnp.zeros((1, 1, H, D)), jnp.full((1, 1), time)
    old = old_chunk(1.0, frozen=0, remaining=6)
    found = inpainted(lambda x, time: x * 0, x, old)(x, t)[0, 0, :, 0]
    np.testing.assert_allclose(found, -MAX_PULL * old.weight[0], rtol=1e-6)
