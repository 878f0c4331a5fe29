"""What pi0_jax.testing hands out fits together, and equal seeds give equal values."""

import jax
import numpy as np
import pytest

from pi0_jax import testing
from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import check_params, load_policy, save_policy
from pi0_jax.policy.policy import Policy
from pi0_jax.robot import Robot, numbered

SLIDER = Robot("slider", ("top",), numbered("joint", 5), numbered("push", 3))


def test_a_tiny_policy_acts_and_survives_a_folder(tmp_path):
    folder = testing.tiny_policy(SLIDER)
    check_params(folder.params, testing.CONFIG, tmp_path)
    save_policy(tmp_path / "p", folder, {"made_by": "a test"})
    seen = [testing.raw_obs(SLIDER, seed=i) for i in range(2)]
    actions = Policy.load(tmp_path / "p", num_flow_steps=2).act(seen, seed=4)
    assert actions.shape == (2, testing.CONFIG.action_horizon, 3)
    again = Policy.from_folder(load_policy(str(tmp_path / "p")), num_flow_steps=2)
    np.testing.assert_array_equal(again.act(seen, seed=4), actions)
    assert np.abs(again.act(seen, seed=5) - actions).max() > 1e-3


def test_a_robot_that_is_too_wide_is_refused():
    wide = Robot("wide", ("top",), numbered("joint", 5), numbered("push", 9))
    with pytest.raises(InputError, match="the robot has 9 actions, the model takes 8"):
        testing.tiny_policy(wide)


def test_windows_fit_the_network():
    windows, model = testing.batch(3), Pi0(testing.CONFIG)
    params = testing.random_params()
    cache = jax.eval_shape(model.encode_prefix, params, windows.obs)
    assert cache.mask.shape == (3, 2 * 4 + testing.CONFIG.prompt_length)
    assert windows.action_mask.sum(1).tolist() == [1, 2, 3]
    assert windows.weight.tolist() == [0.0, 0.5, 1.0]


def test_equal_seeds_give_equal_values():
    one, same, other = (testing.raw_obs(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.images, same.images)
    assert (one.images != other.images).any()
