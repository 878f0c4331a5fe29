"""The steps of Flow-SDE by hand, and that the noise leaves the distribution of the flow alone."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from pi0_jax.model.flow import euler
from pi0_jax.model.flow_sde import log_density, sample_chain, step_time, transition


def of_numbers(x, velocity, k: int, steps: int, level: float) -> tuple[float, float]:
    """`transition` of a single number."""
    one = [jnp.full((1, 1, 1, 1), value, jnp.float32) for value in (x, velocity)]
    mean, std = transition(*one, jnp.full((1, 1), k), steps, level)
    return float(mean[0, 0, 0, 0]), float(std[0, 0, 0, 0])


# K = 4, level 0.5, so dt = 0.25 and t = 1, 0.75, 0.5, 0.25.
# s^2 = 0.25 t / (1 - t), below the bar 0.25 at t = 1:   1, 0.75, 0.25, 1/12.
# std = s sqrt(0.25):                                    0.5, 0.43301, 0.25, 0.14434.
# x1's factor, t - 0.25 - s^2 0.25 / (2 t):              0.625, 0.375, 0.1875, -1/24.
# x0's factor, 1 - t + 0.25:                             0.25, 0.5, 0.75, 1.
BY_HAND = [
    (0, 0.25, 0.625, 0.5),
    (1, 0.5, 0.375, 0.43301),
    (2, 0.75, 0.1875, 0.25),
    (3, 1.0, -1 / 24, 0.14434),
]


@pytest.mark.parametrize(("k", "to_chunk", "to_noise", "std"), BY_HAND)
def test_mean_and_deviation_by_hand(k, to_chunk, to_noise, std):
    t = 1 - k / 4
    x, velocity = 2.0, 3.0
    mean, found = of_numbers(x, velocity, k, 4, 0.5)
    assert found == pytest.approx(std, abs=1e-5)
    x0, x1 = x - t * velocity, x + (1 - t) * velocity
    assert mean == pytest.approx(to_chunk * x0 + to_noise * x1, abs=1e-5)


def test_the_deviations_of_ten_steps():
    """Level 0.5 at K = 10, to two digits."""
    found = [of_numbers(0, 0, k, 10, 0.5)[1] for k in range(10)]
    expected = [0.50, 0.47, 0.32, 0.24, 0.19, 0.16, 0.13, 0.10, 0.08, 0.05]
    np.testing.assert_allclose(found, expected, atol=0.006)


def test_level_0_is_eulers_method():
    for k in range(4):
        mean, std = of_numbers(2.0, 3.0, k, 4, 0.0)
        assert (mean, std) == (pytest.approx(2.0 - 0.25 * 3.0, abs=1e-6), 0.0)


def line(x: float, slope: float, offset: float) -> float:
    return slope * x + offset


def variance_at_the_end(steps: int, level: float, corrected: bool = True) -> tuple[float, float]:
    """Mean and variance of the chunk, exactly: every step is linear in x and adds a normal.

    The chunks of the data are N(0.3, 0.2^2), one number each; their velocity field is linear.
    """
    centre, spread = 0.3, 0.2
    mean, variance = 0.0, 1.0  # of the noise at t = 1
    for k in range(steps):
        t = 1 - k / steps
        # Of x_t = t e + (1 - t) a: E[e - a | x_t] for independent normal e and a.
        slope = (t - (1 - t) * spread**2) / (t**2 + (1 - t) ** 2 * spread**2)
        velocity = partial(line, slope=slope, offset=-slope * (1 - t) * centre - centre)
        at_0, std = of_numbers(0.0, velocity(0.0), k, steps, level)
        at_1, _ = of_numbers(1.0, velocity(1.0), k, steps, level)
        if not corrected:  # Euler's mean with the same noise
            at_0, at_1 = (x - velocity(x) / steps for x in (0.0, 1.0))
        mean, variance = (at_1 - at_0) * mean + at_0, (at_1 - at_0) ** 2 * variance + std**2
    return mean, variance


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_the_noise_leaves_the_distribution_of_the_chunks_alone(level):
    """The longer the chain, the closer to N(0.3, 0.2^2); without correction it does not come."""
    mean, variance = variance_at_the_end(300, level)
    assert mean == pytest.approx(0.3, abs=0.01)
    assert variance**0.5 == pytest.approx(0.2, abs=0.01)
    if level:
        assert variance_at_the_end(300, level, corrected=False)[1] ** 0.5 > 0.22


def test_a_chain_by_hand():
    """A constant velocity of 1: Euler goes 1 down in all; a chain's densities are its noise's."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 5, 3, 2)).astype(np.float32)
    constant = lambda x, time: jnp.ones_like(x)  # noqa: E731
    x, densities = sample_chain(constant, jnp.asarray(noise), 0.5)
    assert (x.shape, densities.shape) == ((2, 5, 3, 2), (2, 4, 3, 2))
    np.testing.assert_array_equal(x[:, 0], noise[:, 0])
    for k, to_chunk, to_noise, std in BY_HAND:
        t, before = 1 - k / 4, np.asarray(x[:, k])
        mean = to_chunk * (before - t) + to_noise * (before + 1 - t)
        np.testing.assert_allclose(x[:, k + 1], mean + std * noise[:, k + 1], atol=2e-5)
        density = -0.5 * noise[:, k + 1] ** 2 - np.log(std * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(densities[:, k], density, atol=1e-3)
    # With hardly any noise the chain ends where Euler's method does.
    quiet, _ = sample_chain(constant, jnp.asarray(noise), 1e-4)
    plain = euler(constant, jnp.asarray(noise[:, :1]), 4)
    np.testing.assert_allclose(quiet[:, -1], plain[:, 0], atol=1e-3)


def test_dimensions_may_have_levels_of_their_own():
    x, k = jnp.full((1, 4, 3, 2), 2.0), jnp.arange(4)[None]
    own = transition(x, 1.5 * x, k, 4, jnp.array([0.5, 1.5]))
    assert own[1].shape == (1, 4, 1, 2)
    for d, level in enumerate((0.5, 1.5)):
        mean, std = transition(x, 1.5 * x, k, 4, level)
        np.testing.assert_array_equal(own[0][..., d], mean[..., d])
        np.testing.assert_array_equal(own[1][..., 0, d], std[..., 0, 0])


def test_times_and_density():
    np.testing.assert_allclose(step_time(jnp.arange(4), 4), [1, 0.75, 0.5, 0.25])
    # Two deviations away from the mean, deviation 0.5: -2 - log 0.5 - log(2 pi) / 2.
    found = log_density(*(jnp.full((1, 1, 1, 1), value) for value in (1.0, 0.0, 0.5)))
    assert float(found[0, 0, 0, 0]) == pytest.approx(-2 + 0.693147 - 0.918939, abs=1e-5)
