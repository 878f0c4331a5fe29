"""A policy that keeps its chains: the same bits in any batch, the plain flow where it is quiet."""

import jax
import numpy as np
import pytest
from passes import ROWS, velocity
from tiny import CONFIG, policy_folder

from pi0_jax.errors import InputError
from pi0_jax.model import flow_sde
from pi0_jax.model.pi0 import POSITIVE
from pi0_jax.policy.chains import act_in_chains, chain_shape
from pi0_jax.policy.policy import Policy
from pi0_jax.testing import raw_obs

STEPS, LEVEL = 4, 0.5
SEEN = [raw_obs(seed=seed) for seed in range(5)]


def noises(count: int = 5) -> np.ndarray:
    shape = (count, STEPS + 1, CONFIG.action_horizon, CONFIG.action_dim)
    return np.random.default_rng(3).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def policy(params) -> Policy:
    return Policy.from_folder(policy_folder(params), num_flow_steps=STEPS, rows=2)


@pytest.fixture(scope="module")
def acted(policy):
    return act_in_chains(policy, SEEN, noises(), LEVEL)


def test_the_last_of_a_chain_is_the_chunk(policy, acted):
    assert acted.chain.shape == (5, *chain_shape(policy)) == noises().shape
    assert acted.log_prob.shape == (5, STEPS, CONFIG.action_horizon, 7)
    assert acted.chain.dtype == acted.log_prob.dtype == np.float32
    np.testing.assert_array_equal(acted.chain[:, 0], noises()[:, 0])
    expected = policy.robot_actions(acted.chain[:, -1], SEEN)
    np.testing.assert_array_equal(acted.actions, expected)


def test_a_chain_does_not_depend_on_its_batch(policy, acted):
    for index in (0, 3, 4):  # the last one was padded
        alone = act_in_chains(policy, SEEN[index : index + 1], noises()[index : index + 1], LEVEL)
        for one, all_of_them in zip(alone, acted, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[index])


def test_the_densities_are_those_of_the_network(params, policy, acted):
    """Every step again, by the network's velocity at the stored x."""
    three = slice(2, 5)  # of both calls of the network
    chain, log_prob, noise = (x[three] for x in (acted.chain, acted.log_prob, noises()))
    obs = policy.transforms.observe(SEEN[three])
    positive = np.full((3, ROWS), POSITIVE)
    for first in range(0, STEPS, ROWS):
        at, after = slice(first, first + ROWS), slice(first + 1, first + 1 + ROWS)
        steps = np.broadcast_to(np.arange(STEPS)[at], (3, ROWS))
        v = velocity(params, obs, chain[:, at], flow_sde.step_time(steps, STEPS), positive)
        mean, std = flow_sde.transition(chain[:, at], v, steps, STEPS, LEVEL)
        found = flow_sde.log_density(chain[:, after], mean, std)[..., :7]
        np.testing.assert_allclose(found, log_prob[:, at], atol=1e-4)
        # What a step adds to its mean is the noise that was given for it.
        drawn = (chain[:, after] - np.asarray(mean)) / np.asarray(std)
        np.testing.assert_allclose(drawn, noise[:, after], atol=1e-4)


def test_without_noise_it_is_the_plain_flow(policy):
    """And the noise that a chain starts from is that which `act` takes."""
    quiet = act_in_chains(policy, SEEN, noises(), 1e-4)
    plain = policy.act(SEEN, noises()[:, 0])
    np.testing.assert_allclose(quiet.actions, plain, atol=1e-3)
    assert np.abs(act_in_chains(policy, SEEN, noises(), LEVEL).actions - plain).max() > 0.05


def test_what_is_refused(policy):
    with pytest.raises(InputError, match=r"expected noise float32\[5, 5, 4, 8\]"):
        act_in_chains(policy, SEEN, noises()[:, 1:], LEVEL)
    guided = Policy(policy.model, policy.params, policy.transforms, 2.0, STEPS)
    with pytest.raises(InputError, match=r"expected guidance 1, got 2"):
        act_in_chains(guided, SEEN, noises(), LEVEL)
    broken = policy.with_params(jax.tree.map(lambda x: x * np.nan, policy.params))
    with pytest.raises(InputError, match="expected finite actions, got NaN"):
        act_in_chains(broken, SEEN, noises(), LEVEL)
