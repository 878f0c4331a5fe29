"""Leave-one-out advantages from tables worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.errors import InputError
from pi0_jax.rl.advantage import (
    AdvantageConfig,
    clip,
    episode_weights,
    leave_one_out,
    normalize,
    rescale,
    transform_negatives,
)


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


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        # The others are compared with one another: 1 - 0 and 0 - 1.
        ([1, NAN, 0], [1, NAN, -1]),
        ([INF, 1, 0, -INF], [NAN, 1, -1, NAN]),
        # Nothing left to compare with.
        ([1, NAN], [NAN, NAN]),
        ([NAN, NAN], [NAN, NAN]),
    ],
)
def test_a_spoiled_reward_spoils_no_other(rewards, advantages):
    np.testing.assert_array_equal(leave_one_out(np.array(rewards)), advantages)


@pytest.mark.parametrize(
    ("advantages", "how", "expected"),
    [
        ([-3, 1, 2], "none", [-3, 1, 2]),
        # Mean 0, deviation 2.
        ([-2, 2, -2, 2], "standard", [-1, 1, -1, 1]),
        ([1, 3, NAN], "standard", [-1, 1, NAN]),
        # Median 1, absolute deviations 3 1 0 1 6, their median 1.
        ([-2, 0, 1, 2, 7], "robust", np.array([-3, -1, 0, 1, 6]) / 1.4826),
        # Half of the group and more ended alike: that outcome is 0, nothing is divided.
        ([1, -0.5, -0.5, -0.5], "robust", [1.5, 0, 0, 0]),
        ([0, 0, 0], "standard", [0, 0, 0]),
        ([0, 0, 0], "robust", [0, 0, 0]),
        ([NAN, NAN], "standard", [NAN, NAN]),
        # Equal but for rounding: no noise is blown up.
        ([1e-9, -1e-9], "standard", [0, 0]),
    ],
)
def test_normalize(advantages, how, expected):
    found = normalize(np.array(advantages, np.float32), how)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


SPREAD = np.array([-7.0, -1.0, 0.0, 0.25, 7.0], np.float32)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", [-7, -1, 0, 0.25, 7]),
        ("symmetric", [-5, -1, 0, 0.25, 5]),
        ("asymmetric", [0, 0, 0, 0.25, 5]),
    ],
)
def test_clip(how, expected):
    assert clip(SPREAD, how, 5.0).tolist() == expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("clamp", [0, 0, 0, 0.25, 7]),
        ("abs", [7, 1, 0, 0.25, 7]),
        ("signed", [-7, -1, 0, 0.25, 7]),
        # log(1 + e^A): e^-7, log(1 + 1/e), log 2, ..., 7 + e^-7.
        ("softplus", [0.000911, 0.313262, 0.693147, 0.825939, 7.000911]),
    ],
)
def test_without_negatives(how, expected):
    np.testing.assert_allclose(transform_negatives(SPREAD, how), expected, atol=1e-5)


# Two groups. Advantages 1, -1/2, -1/2 and 1/2, 1/2, -1; positive ones have mean 2/3.
GROUPS = [np.array([1.0, 0, 0], np.float32), np.array([1.0, 1, 0], np.float32)]
OPEN = {"clipping": "none"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.5, 0, 0, 0.75, 0.75, 0]),
        ({"rescale": "none"}, [1, 0, 0, 0.5, 0.5, 0]),
        ({"rescale": "none", "a_max": 0.75}, [0.75, 0, 0, 0.5, 0.5, 0]),
        ({"hard": True}, [1, 0, 0, 1, 1, 0]),
        ({"success_weight": True}, [1, 0, 0, 1, 1, 0]),
        (OPEN | {"rescale": "none", "negatives": "signed"}, [1, -0.5, -0.5, 0.5, 0.5, -1]),
        # The mean is that of the positive weights, for signed ones too.
        (OPEN | {"negatives": "signed"}, [1.5, -0.75, -0.75, 0.75, 0.75, -1.5]),
        (OPEN | {"rescale": "none", "negatives": "abs"}, [1, 0.5, 0.5, 0.5, 0.5, 1]),
        (
            {"clipping": "symmetric", "a_max": 0.75, "rescale": "none", "negatives": "signed"},
            [0.75, -0.5, -0.5, 0.5, 0.5, -0.75],
        ),
        # 1 - 2/5 of the five others, and 0 - 3/5: three of six succeeded.
        ({"all_rollouts_baseline": True, "rescale": "none"}, [0.6, 0, 0, 0.6, 0.6, 0]),
        # Each group has deviation 1/sqrt 2.
        (
            {"normalization": "standard", "rescale": "none"},
            [2**0.5, 0, 0, 0.5**0.5, 0.5**0.5, 0],
        ),
        # The commoner outcome of a group is 0: success, in the second.
        ({"normalization": "robust", "rescale": "none"}, [1.5, 0, 0, 0, 0, 0]),
    ],
)
def test_weights_of_two_groups(settings, expected):
    weights, spoiled = episode_weights(GROUPS, AdvantageConfig(**settings))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-7)
    assert spoiled == 0


def test_softplus_gives_failures_a_little():
    settings = AdvantageConfig(clipping="none", negatives="softplus", rescale="none")
    weights, _ = episode_weights(GROUPS[:1], settings)
    np.testing.assert_allclose(weights, np.log1p(np.exp([1, -0.5, -0.5])), rtol=1e-6)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"success_weight": True},
        {"normalization": "standard"},
        OPEN | {"negatives": "signed"},
    ],
)
def test_what_is_not_finite_weighs_nothing_and_is_counted(settings, baseline, value):
    config = AdvantageConfig(**settings, all_rollouts_baseline=baseline)
    spoiled = [np.array([1.0, 0, value, 0]), np.array([1.0, 1, 0])]
    sound = [np.array([1.0, 0, 0]), np.array([1.0, 1, 0])]
    weights, number = episode_weights(spoiled, config)
    assert np.isfinite(weights).all()
    assert (weights[2], number) == (0, 1)
    np.testing.assert_allclose(np.delete(weights, 2), episode_weights(sound, config)[0], rtol=1e-6)


@given(st.lists(st.lists(st.floats(width=32), min_size=2, max_size=6), min_size=1, max_size=4))
def test_any_rewards_give_weights_that_can_be_trained_on(rewards):
    weights, spoiled = episode_weights([np.array(part) for part in rewards], AdvantageConfig())
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert len(weights) == sum(map(len, rewards))
    assert spoiled >= sum(not np.isfinite(value) for part in rewards for value in part)


def test_what_is_said_aloud():
    assert AdvantageConfig().warning is None
    loud = AdvantageConfig(clipping="none", negatives="abs")
    assert "failures are trained on as if they were good" in loud.warning
    assert "unbounded below" in AdvantageConfig(clipping="none", negatives="signed").warning
    assert AdvantageConfig(clipping="none", negatives="abs", success_weight=True).warning is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalization": "zscore"}, r"normalization must be one of 'none', .* got 'zscore'"),
        ({"clipping": "both"}, "clipping must be one of 'asymmetric'"),
        ({"negatives": "keep"}, "negatives must be one of 'clamp'"),
        ({"rescale": "mean"}, "rescale must be one of 'positive_mean', 'none'"),
        ({"a_max": -1.0}, r"a_max must be a number in \[0, 1e6\]"),
        ({"negatives": "abs"}, "set rl.advantage.clipping to 'symmetric' or 'none'"),
        ({"negatives": "abs", "clipping": "none", "hard": True}, "it needs .* 'clamp', got 'abs'"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(InputError, match=message):
        AdvantageConfig(**settings)
