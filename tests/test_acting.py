"""A large network acts layer by layer with joined matrices: the same function of its leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIG, MODEL

from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.model import acting
from pi0_jax.model.acting import Held, acting_form
from pi0_jax.model.config import pi0
from pi0_jax.model.lora import with_adapters
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.policy import branches, sample
from pi0_jax.testing import observation, random_params


@pytest.fixture
def large(monkeypatch):
    """Makes the tiny network count as large."""
    monkeypatch.setattr(acting, "LARGE", 0)


def made(params, dtype="float32"):
    """The arrays of a form."""
    leaves = leaves_by_path(params)

    def one(held: Held):
        return held.made([jnp.asarray(held.part(leaves[path])) for path in held.paths])

    return jax.tree.map(one, acting_form(params, dtype))


def chunks(model, params, guidance):
    obs = observation(2)
    noise = np.random.default_rng(0).standard_normal(
        (2, CONFIG.action_horizon, CONFIG.action_dim), np.float32
    )
    return np.asarray(sample(model, branches(guidance), params, obs, noise, 3, guidance))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_it_acts_as_the_stacks_do(large, guidance):
    params = random_params()
    ours, stacked = (chunks(MODEL, tree, guidance) for tree in (made(params), params))
    np.testing.assert_allclose(ours, stacked, rtol=1e-5, atol=1e-5)
    other = random_params(seed=1)
    assert np.abs(chunks(MODEL, made(other), guidance) - stacked).max() > 0.01


def test_joined_matrices_by_hand():
    q = jnp.arange(8.0).reshape(2, 2, 2)  # two heads [d, e]: [[0, 1], [2, 3]], [[4, 5], [6, 7]]
    kv = jnp.arange(10.0, 18).reshape(2, 1, 2, 2)  # key [[10, 11], [12, 13]], value [[14, ...
    assert acting._qkv(q, kv).tolist() == [
        [0, 1, 4, 5, 10, 11, 14, 15],
        [2, 3, 6, 7, 12, 13, 16, 17],
    ]
    # Gate and value of the action expert are one matrix, those of the VLM two: [[0, 1], [2, 3]] ...
    assert acting._gating(q).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert acting._GATE(q).tolist() == [[0, 1], [2, 3]]
    assert acting._VALUE(q).tolist() == [[4, 5], [6, 7]]


def test_no_weight_is_lost_and_none_is_held_twice(large):
    params = random_params()
    sizes = sum(leaf.size for leaf in jax.tree.leaves(made(params)))
    assert sizes == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_only_large_networks_without_adapters_are_cut():
    def is_cut(params):
        return acting.is_per_layer(acting_form(params, "bfloat16"))

    published = Pi0(pi0()).shapes()
    assert is_cut(published)
    assert not is_cut(random_params())
    adapted = jax.eval_shape(lambda tree: with_adapters(tree, jax.random.key(0)), published)
    assert not is_cut(adapted)
