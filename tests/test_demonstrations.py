"""Demonstrations as training sees them."""

import numpy as np
import pytest
from tiny import CONFIG, episode, transforms

from pi0_jax.data.action_space import AS_THE_ROBOT
from pi0_jax.data.demonstrations import Recorded
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


def test_no_episode_is_an_error():
    broken = episode(3, [0])
    broken.actions[0] = np.nan
    with pytest.raises(InputError, match="finite samples"):
        Recorded([broken]).stats(AS_THE_ROBOT, CONFIG.action_horizon, 0.0)
