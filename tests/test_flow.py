"""Flow matching where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pi0_jax.model import flow

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
NOISE = np.random.default_rng(1).standard_normal((2, 3, 4, 5), np.float32)


def test_t_0_is_the_chunk_and_t_1_is_noise():
    time = jnp.array([[0.0, 1.0, 0.25], [1.0, 0.0, 0.5]])
    x_t = np.asarray(flow.interpolate(jnp.asarray(X), jnp.asarray(NOISE), time))
    np.testing.assert_array_equal(x_t[0, 0], X[0, 0])
    np.testing.assert_array_equal(x_t[1, 0], NOISE[1, 0])
    np.testing.assert_allclose(x_t[0, 2], 0.75 * X[0, 2] + 0.25 * NOISE[0, 2], atol=1e-6)


def test_times_follow_the_beta():
    """Beta(1.5, 1) has mean 3/5, variance 12/175 and distribution function t^1.5."""
    times = np.asarray(flow.sample_time(jax.random.key(0), (200_000,)), np.float64)
    assert times.min() >= 0.001
    assert times.max() <= 1.0
    unit = (times - 0.001) / 0.999
    assert unit.mean() == pytest.approx(0.6, abs=3e-3)
    assert unit.var() == pytest.approx(12 / 175, abs=1e-3)
    for t in (0.1, 0.5, 0.9):
        assert (unit < t).mean() == pytest.approx(t**1.5, abs=4e-3)


def test_matching_error():
    target = NOISE - X
    np.testing.assert_array_equal(flow.matching_error(target, X, NOISE), 0)
    error = flow.matching_error(target + np.array([1, 0, 0, 0, 3], np.float32), X, NOISE)
    np.testing.assert_allclose(error, np.full((2, 3, 4), (1 + 9) / 5), rtol=1e-5)


def test_masked_mean_by_hand():
    error = jnp.array([[[1.0, 2.0, 100.0]], [[4.0, 100.0, 100.0]]])
    mask = jnp.array([[True, True, False], [True, False, False]])
    assert flow.masked_mean(error, mask) == pytest.approx((1 + 2 + 4) / 3)
    # A weight of 0 dilutes: it stays in the denominator.
    assert flow.masked_mean(error, mask, jnp.array([2.0, 0.0])) == pytest.approx(2 * 3 / 3)
    assert flow.masked_mean(error, mask, 0.5) == pytest.approx(7 / 6)
    assert flow.masked_mean(error, jnp.zeros_like(mask)) == 0.0


def test_masked_mean_counts_every_row():
    error = jnp.array([[[1.0, 9.0], [3.0, 9.0]]])  # one window, two time samples
    assert flow.masked_mean(error, jnp.array([[True, False]])) == pytest.approx(2.0)


def test_guidance():
    uncond, cond = jnp.array([1.0, -2.0]), jnp.array([3.0, 2.0])
    np.testing.assert_array_equal(flow.guide(uncond, cond, 0.0), uncond)
    np.testing.assert_array_equal(flow.guide(uncond, cond, 1.0), cond)
    np.testing.assert_array_equal(flow.guide(uncond, cond, 2.0), [5.0, 6.0])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_euler_is_exact_for_a_constant_field(steps):
    found = flow.euler(lambda x, t: jnp.full_like(x, 2.0), jnp.asarray(NOISE), steps)
    np.testing.assert_allclose(found, NOISE - 2.0, atol=1e-5)


def test_euler_follows_the_straight_path():
    """The field of one (chunk, noise) pair leads from the noise to the chunk in any steps."""
    for steps in (1, 7):
        found = flow.euler(lambda x, t: jnp.asarray(NOISE - X), jnp.asarray(NOISE), steps)
        np.testing.assert_allclose(found, X, atol=1e-5)


def test_euler_on_a_linear_field():
    """dx/dt = x from t = 1 to 0 in n steps is x (1 - 1/n)^n."""
    found = flow.euler(lambda x, t: x, jnp.asarray(NOISE), 4)
    np.testing.assert_allclose(found, NOISE * 0.75**4, rtol=1e-5)


def test_euler_asks_at_the_start_of_each_step():
    """dx/dt = t with n = 4: times 1, 3/4, 1/2, 1/4, the same for every row."""
    found = flow.euler(lambda x, t: jnp.ones_like(x) * t[..., None, None], jnp.zeros_like(X), 4)
    np.testing.assert_allclose(found, -(1 + 0.75 + 0.5 + 0.25) / 4, rtol=1e-6)


def test_the_number_of_steps_may_be_traced():
    integrate = jax.jit(lambda n: flow.euler(lambda x, t: x, jnp.asarray(NOISE), n))
    np.testing.assert_allclose(integrate(2), NOISE / 4, rtol=1e-5)
    np.testing.assert_allclose(integrate(1), 0, atol=1e-6)
    assert integrate._cache_size() == 1
