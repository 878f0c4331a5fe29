"""Demonstrations as training sees them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG, episode, transforms

from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.demonstrations import Recorded, motion_stats
from pi0_jax.data.windows import cut_windows
from pi0_jax.errors import InputError


def test_recorded_episodes_are_cut_at_every_look():
    episodes = [episode(5, [0, 2, 4]), episode(3, [0, 2], seed=1)]
    windows = Recorded(episodes).windows(transforms(), 4, weight=0.3)
    whole = cut_windows(episodes, [0.3, 0.3], transforms(), 4)
    assert len(windows) == 5
    taken = windows.take(np.array([4, 0]))
    np.testing.assert_array_equal(taken.actions, whole.actions[[4, 0]])
    np.testing.assert_array_equal(taken.weight, np.full(2, 0.3, np.float32))
    assert len(Recorded(episodes).windows(transforms(), 3, skip_short=True)) == 3


def test_statistics_by_hand():
    """Two steps: the chunk at 0 goes to 1 and 4 from state 1, the chunk at 1 to 4 from state 3."""
    state = np.array([[1.0, 0.0], [3.0, 0.0]])
    actions = np.array([[1.0, 5.0], [4.0, 7.0]])
    plain = motion_stats([(state, actions)], AS_THE_ROBOT, 2, 0.0)
    assert plain.state.mean.tolist() == [2.0, 0.0]
    assert plain.actions.mean.tolist() == [2.5, 6.0]
    relative = motion_stats([(state, actions)], ActionSpace((True,)), 2, 0.0)
    # 1 - 1, 4 - 1 and 4 - 3; the second dimension stays as it is.
    np.testing.assert_allclose(relative.actions.mean, [4 / 3, 6.0])
    np.testing.assert_allclose(relative.actions.std, [np.std([0, 3, 1]), 1.0])
    floored = motion_stats([(state, actions)], ActionSpace((True,)), 2, 9.0)
    assert floored.actions.std.tolist() == [9.0, 9.0]
    assert floored.state.std.tolist() == [1.0, 0.0]


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), horizon=st.integers(1, 6))
def test_statistics_are_those_of_the_windows(lengths, horizon):
    """Means of delta dimensions are the means of every real step of every window."""
    made = [episode(n, list(range(n)), seed=i) for i, n in enumerate(lengths)]
    found = Recorded(made).stats(ActionSpace((True, True)), horizon, 0.0)
    values = [
        one.actions[start + ahead, :2] - one.state[start, :2]
        for one in made
        for start in range(len(one))
        for ahead in range(min(horizon, len(one) - start))
    ]
    np.testing.assert_allclose(found.actions.mean[:2], np.mean(values, 0, float), atol=1e-6)
    np.testing.assert_allclose(found.actions.std[:2], np.std(values, 0, float), atol=1e-6)
    q99 = np.quantile(np.array(values, float), 0.99, axis=0)
    np.testing.assert_allclose(found.actions.q99[:2], q99, atol=1e-6)


def test_no_episode_is_an_error():
    broken = episode(3, [0])
    broken.actions[0] = np.nan
    with pytest.raises(InputError, match="finite samples"):
        Recorded([broken]).stats(AS_THE_ROBOT, CONFIG.action_horizon, 0.0)
