"""Counts of policy calls, by hand."""

import pytest

from pi0_jax.rollout.policy_use import PolicyUse


def test_padding_is_what_fills_the_last_call():
    """20 observations are three calls of 8 rows, 4 are one: 24 of 32 rows are real."""
    use = PolicyUse()
    use.add(0.5, 20, 8)
    use.add(0.25, 4, 8)
    assert use.metrics() == {
        "seconds_policy": 0.75,
        "observations_per_call": 12.0,
        "padding_share": pytest.approx(0.25),
    }


def test_of_a_remote_policy_the_rows_are_not_known():
    use = PolicyUse()
    use.add(0.5, 20, 0)
    assert use.metrics() == {"seconds_policy": 0.5, "observations_per_call": 20.0}


def test_without_a_call_nothing_is_said():
    assert PolicyUse().metrics() == {}
