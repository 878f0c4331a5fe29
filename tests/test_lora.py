"""Adapters: nothing at first, merged exactly, and the only thing of the VLM that is trained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.model import lora
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch, observation
from pi0_jax.training.fit import create_training, final_params, fit
from pi0_jax.training.optimizer import OptimizerConfig

KEY = jax.random.key(0)


def adapters(params):
    """Shapes of the parameters with fresh adapters of rank 3."""
    return jax.eval_shape(lambda: lora.with_adapters(params, KEY, rank=3))


@pytest.fixture(scope="module")
def adapted(params):
    """Adapters as after training: none is zero."""
    rng, shapes = np.random.default_rng(0), adapters(params)["lora"]
    noise = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)
    return params | {"lora": noise}


@jax.jit
def act(params, obs):
    cache = MODEL.encode_prefix(params, obs)
    x_t = jnp.ones((2, 1, MODEL.config.action_horizon, MODEL.config.action_dim))
    return cache.k, MODEL.velocity(params, cache, obs.state, x_t, jnp.full((2, 1), 0.5))


def test_every_matrix_of_both_experts_has_an_adapter(params):
    layers = adapters(params)["lora"]["layers"]
    assert set(layers) == {"attn", "mlp", "mlp_1"}
    assert len(layers["attn"]) == 6
    chex.assert_shape(layers["mlp_1"]["linear"]["a"], (2, 16, 3))
    chex.assert_shape(layers["mlp_1"]["linear"]["b"], (2, 3, 12))
    # A low rank for each head: [l, n, d, r] and [l, n, r, e].
    chex.assert_shape(layers["attn"]["q_einsum"]["w"]["a"], (2, 4, 16, 3))
    chex.assert_shape(layers["attn"]["q_einsum"]["w"]["b"], (2, 4, 3, 4))


def test_a_fresh_adapter_changes_nothing(params):
    fresh = jax.jit(lora.with_adapters, static_argnames="rank")(params, KEY, rank=3)
    chex.assert_trees_all_equal(act(fresh, observation(2)), act(params, observation(2)))


def test_merged_parameters_act_alike(params, adapted):
    merged = lora.merge(adapted)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    seen = act(adapted, observation(2))
    chex.assert_trees_all_close(act(merged, observation(2)), seen, rtol=1e-4, atol=1e-5)
    assert all(
        np.abs(a - b).max() > 0.1 for a, b in zip(seen, act(params, observation(2)), strict=True)
    )


def test_merge_by_hand():
    weight = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "scale": jnp.ones(2)}
    adapter = {"w": {"a": jnp.array([[1.0], [2.0]]), "b": jnp.array([[10.0, 20.0]])}}
    assert lora.adapt(weight, adapter)["w"].tolist() == [[11.0, 22.0], [23.0, 44.0]]
    assert lora.adapt(weight, adapter)["scale"] is weight["scale"]
    assert lora.merge(weight) is weight


def test_training_moves_adapters_and_leaves_the_base(params):
    config = OptimizerConfig(1e-2, 0, preset="lora", ema_decay=0.5)
    state, update = create_training(params, Cfg(0.1).loss(MODEL, 1, "embedding"), config, 3)
    state = fit(state, update, lambda step: batch(2), 3, KEY, 3, lambda step, values: None)
    chex.assert_trees_all_equal(state.params["PaliGemma"], params["PaliGemma"])
    assert np.abs(state.params["lora"]["layers"]["mlp"]["linear"]["b"]).max() > 1e-3
    # What is exported has no adapters, and is the moving average.
    exported = final_params(state)
    assert jax.tree.structure(exported) == jax.tree.structure(params)
    moved = exported["state_proj"]["kernel"] - params["state_proj"]["kernel"]
    full = state.params["state_proj"]["kernel"] - params["state_proj"]["kernel"]
    assert 0 < np.abs(moved).sum() < np.abs(full).sum()
