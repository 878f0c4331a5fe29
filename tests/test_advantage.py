"""Leave-one-out advantages from tables worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.rl.advantage import leave_one_out, positive_weights, rescale


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        # K = 4: success (K - m) / (K - 1), failure -m / (K - 1).
        ([1, 0, 0, 0], [3 / 3, -1 / 3, -1 / 3, -1 / 3]),
        ([0, 1, 0, 1], [-2 / 3, 2 / 3, -2 / 3, 2 / 3]),
        ([1, 1, 0, 1], [1 / 3, 1 / 3, -3 / 3, 1 / 3]),
        # Uniform groups teach nothing.
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([1, 0], [1, -1]),
        # Any reward: 3 - mean(1, 2), 1 - mean(3, 2), 2 - mean(3, 1).
        ([3, 1, 2], [1.5, -1.5, 0]),
    ],
)
def test_by_hand(rewards, advantages):
    found = leave_one_out(np.array(rewards, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, advantages, atol=1e-7)


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=20))
def test_they_sum_to_zero_and_ignore_a_constant(rewards):
    found = leave_one_out(np.array(rewards, np.float32))
    assert found.sum() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(found, leave_one_out(np.array(rewards) + 5), atol=1e-4)


def test_one_rollout_has_no_baseline():
    with pytest.raises(ValueError, match="at least 2 rollouts, got 1"):
        leave_one_out(np.array([1.0]))


def test_positive_weights():
    advantages = np.array([-1.0, 0.0, 0.25, 1.0, 7.0], np.float32)
    soft = positive_weights(advantages, a_max=5.0, hard=False)
    assert soft.tolist() == [0, 0, 0.25, 1, 5]
    assert positive_weights(advantages, a_max=5.0, hard=True).tolist() == [0, 0, 1, 1, 1]
    assert soft.dtype == np.float32


def test_rescale():
    assert rescale(np.array([0.0, 1.0, 3.0])).tolist() == [0, 0.5, 1.5]
    assert rescale(np.zeros(3)).tolist() == [0, 0, 0]
    assert rescale(np.zeros(0)).tolist() == []


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, 4.0]), min_size=1, max_size=20))
def test_rescaled_positive_weights_have_mean_1(weights):
    scaled = rescale(np.array(weights))
    assert ((scaled > 0) == (np.array(weights) > 0)).all()
    if scaled.any():
        assert scaled[scaled > 0].mean() == pytest.approx(1)
