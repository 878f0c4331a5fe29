"""Adapters: nothing at first, merged exactly, and the only thing of the VLM that is trained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from passes import rows, velocity
from skips import slow
from tiny import MODEL

from pi0_jax.model import lora
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch, observation
from pi0_jax.training.fit import create_training, final_params, fit
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.supervised import flow_matching_loss

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


def act(params):
    return velocity(params, observation(3), *rows())


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
    np.testing.assert_array_equal(act(fresh), act(params))


def test_merged_parameters_act_alike(params, adapted):
    merged = lora.merge(adapted)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    np.testing.assert_allclose(act(merged), act(adapted), rtol=1e-4, atol=1e-5)
    assert np.abs(act(adapted) - act(params)).max() > 0.1


def test_merge_by_hand():
    weight = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "scale": jnp.ones(2)}
    adapter = {"w": {"a": jnp.array([[1.0], [2.0]]), "b": jnp.array([[10.0, 20.0]])}}
    assert lora.adapt(weight, adapter)["w"].tolist() == [[11.0, 22.0], [23.0, 44.0]]
    assert lora.adapt(weight, adapter)["scale"] is weight["scale"]
    assert lora.merge(weight) is weight


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(flow_matching_loss(MODEL, 1), id="plain"),
        pytest.param(Cfg(0.1).loss(MODEL, 1, "embedding"), id="cfg", marks=slow),
    ],
)
def test_training_moves_adapters_and_leaves_the_base(params, loss):
    # Adapters of one kind and one layer are enough to see. By those of the action expert nothing
    # goes back through the prefix, which is half of the time to compile.
    rules = ((r"lora/layers/(attn|mlp)/.*", 0.0), (r"(action|cond).*", 0.0))
    config = OptimizerConfig(1e-2, 0, rules=rules, preset="lora", ema_decay=0.5)
    state, update = create_training(params, loss, config, 3)
    state = fit(state, update, lambda step: batch(2), 3, KEY, 3, lambda step, values: None)
    chex.assert_trees_all_equal(state.params["PaliGemma"], params["PaliGemma"])
    assert np.abs(state.params["lora"]["layers"]["mlp_1"]["linear"]["b"]).max() > 1e-3
    # What is exported has no adapters, and is the moving average.
    exported = final_params(state)
    assert jax.tree.structure(exported) == jax.tree.structure(params)
    moved = exported["state_proj"]["kernel"] - params["state_proj"]["kernel"]
    full = state.params["state_proj"]["kernel"] - params["state_proj"]["kernel"]
    assert 0 < np.abs(moved).sum() < np.abs(full).sum()
