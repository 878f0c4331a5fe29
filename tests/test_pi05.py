"""In what a pi0.5 differs from a pi0: no state token, the flow time in the norms, no more."""

import dataclasses
from functools import partial

import chex
import gradients
import jax
import jax.numpy as jnp
import numpy as np
import passes
import pytest
from gradients import CFG, windows
from passes import rows
from tiny import CONFIG

from pi0_jax.model import lora
from pi0_jax.model.config import preset
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0, time_embedding
from pi0_jax.testing import observation, random_params
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import merge, split

MODEL = Pi0(dataclasses.replace(CONFIG, pi05=True))
HORIZON, DIM, WIDTH = CONFIG.action_horizon, CONFIG.action_dim, CONFIG.action.width


@pytest.fixture(scope="module")
def params():
    """Parameters as after training: none is zero, modulations and `cond_embed` included."""
    return jax.tree.map(jnp.asarray, random_params(config=MODEL.config))


velocity = partial(passes.velocity, model=MODEL)


@partial(jax.jit, static_argnames="model")
def gradient(params, model: Pi0):
    """Of the sum of squared velocities by all but PaliGemma's own leaves, path -> leaf.

    In the action expert a pi0.5 differs from a pi0.
    """
    trained, frozen = split(params, OptimizerConfig(1.0, 0, preset="expert_only").all_rules)

    def loss(trained):
        v = passes.velocity(merge(trained, frozen), observation(3), *rows(3), model=model)
        return jnp.sum(jnp.square(v))

    return jax.grad(loss)(trained)


def test_the_published_size():
    """The official 3,353,433,872 parameters in 51 leaves, and two rows of cond_embed."""
    shapes = Pi0(preset("pi05")).shapes()
    leaves = jax.tree.leaves(shapes)
    assert (len(leaves), sum(leaf.size for leaf in leaves)) == (52, 3_353_433_872 + 2048)


def test_the_suffix_is_the_actions_alone(params):
    obs, (x_t, time, _) = observation(3), rows(3)
    tokens = MODEL.embed_suffix(params, obs.state, x_t, time, None)
    projected = x_t @ params["action_in_proj"]["kernel"] + params["action_in_proj"]["bias"]
    chex.assert_shape(tokens, (3, 2, HORIZON, WIDTH))
    np.testing.assert_allclose(tokens, projected, atol=1e-5)


def test_the_clock_is_the_time_after_two_layers_each_with_a_swish(params):
    time = jnp.array([[0.25]])
    x = np.asarray(time_embedding(time, WIDTH), np.float64)
    for name in ("time_mlp_in", "time_mlp_out"):
        x = x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        x = x / (1 + np.exp(-x))
    np.testing.assert_allclose(MODEL.clock(params, time), x, atol=1e-5)
    assert Pi0(CONFIG).clock({}, time) is None


def test_the_state_is_not_read_and_the_time_is(params):
    obs, (x_t, time, condition) = observation(3), rows(3)
    v = velocity(params, obs, x_t, time, condition)
    moved = velocity(params, obs.replace(state=obs.state + 1), x_t, time, condition)
    np.testing.assert_array_equal(v, moved)
    later = velocity(params, obs, x_t, time + 0.1, condition)
    assert (np.abs(v - later).max((-1, -2)) > 1e-3).all()


def test_every_action_sees_every_action(params):
    obs, (x_t, time, condition) = observation(3), rows(3)
    v = velocity(params, obs, x_t, time, condition)
    for changed, seen in ((0, HORIZON - 1), (HORIZON - 1, 0)):
        other = x_t.copy()
        other[:, :, changed] += 1
        moved = np.abs(velocity(params, obs, other, time, condition) - v)[:, :, seen]
        assert (moved.max(-1) > 1e-5).all()


def test_rows_do_not_meet(params):
    """Each row has a clock of its own."""
    obs, (x_t, time, condition) = observation(3), rows(3)
    v = velocity(params, obs, x_t, time, condition)
    turned = velocity(params, obs, x_t[:, ::-1], time[:, ::-1], condition[:, ::-1])
    np.testing.assert_allclose(v, turned[:, ::-1], atol=1e-5)


def test_zero_cond_embed_makes_conditions_agree_bit_for_bit(params):
    obs, (x_t, time, _) = observation(3), rows(3)
    blind = params | {"cond_embed": jnp.zeros_like(params["cond_embed"])}
    positive, any_behaviour = np.full((3, 2), POSITIVE), np.full((3, 2), UNCONDITIONAL)
    v = velocity(blind, obs, x_t, time, any_behaviour)
    np.testing.assert_array_equal(v, velocity(blind, obs, x_t, time, positive))
    np.testing.assert_array_equal(v, velocity(blind, obs, x_t, time, None))
    trained = [velocity(params, obs, x_t, time, c) for c in (positive, any_behaviour)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3


def test_the_condition_is_a_bias_of_the_projected_actions(params):
    """So an export can fold it away."""
    obs, (x_t, time, _) = observation(3), rows(3)
    layer, condition = params["action_in_proj"], params["cond_embed"][POSITIVE]
    folded = params | {"action_in_proj": layer | {"bias": layer["bias"] + condition}}
    v = velocity(params, obs, x_t, time, np.full((3, 2), POSITIVE))
    np.testing.assert_allclose(v, velocity(folded, obs, x_t, time, None), atol=1e-5)


def test_fresh_norms_let_no_gradient_through_their_closed_gates(params):
    """Zero modulation: a fresh model learns its gates first."""
    names = ("pre_attention_norm_1", "pre_ffw_norm_1")

    @jax.jit
    def drawn(key):
        layers = MODEL.init(key)["PaliGemma"]["llm"]["layers"]
        return {name: layers[name] for name in names}  # only these are compiled

    fresh = drawn(jax.random.key(0))
    np.testing.assert_array_equal(fresh["pre_ffw_norm_1"]["Dense_0"]["kernel"], 0)
    llm = params["PaliGemma"]["llm"]
    llm = llm | {"layers": llm["layers"] | fresh}
    grads = gradient(params | {"PaliGemma": params["PaliGemma"] | {"llm": llm}}, MODEL)
    layers = "PaliGemma/llm/layers"
    gates = grads[f"{layers}/pre_ffw_norm_1/Dense_0/bias"]  # [l, 3 w]: scale, shift, gate
    assert (np.abs(gates[:, 2 * WIDTH :]).max(1) > 0).all()
    np.testing.assert_array_equal(grads[f"{layers}/mlp_1/linear"], 0)


def test_adapters_leave_the_norms_alone(params):
    key, rng = jax.random.key(0), np.random.default_rng(0)
    shapes = jax.eval_shape(partial(lora.with_adapters, rank=2), params, key)["lora"]
    assert not [name for name in shapes["layers"] if "norm" in name]
    noise = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)
    adapted, (obs, suffix) = params | {"lora": noise}, (observation(3), rows(3))
    found = velocity(adapted, obs, *suffix)
    merged = velocity(lora.merge(adapted), obs, *suffix)
    np.testing.assert_allclose(found, merged, rtol=1e-4, atol=1e-5)
    assert np.abs(found - velocity(params, obs, *suffix)).max() > 0.1


def test_remat_changes_no_gradient(params):
    plain, again = (gradient(params, model) for model in (MODEL, Pi0(MODEL.config, "full")))
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())


def test_bfloat16_computes_and_float32_comes_out(params):
    half = Pi0(dataclasses.replace(MODEL.config, compute_dtype="bfloat16"))
    obs, suffix = observation(3), rows(3)
    v = velocity(params, obs, *suffix, model=half)
    exact = velocity(params, obs, *suffix)
    assert v.dtype == jnp.float32
    scale = np.abs(exact).max()
    assert 1e-5 * scale < np.abs(v - exact).max() < 0.1 * scale


def test_the_guided_loss_trains_the_condition_and_the_clock(params):
    trained = ("cond_embed", "time_mlp_in")
    _, found = gradients.gradient(CFG, params, windows(), trained=trained, model=MODEL)
    assert (np.abs(found["cond_embed"]).max(1) > 0).all()
    assert np.abs(found["time_mlp_in"]["kernel"]).max() > 0
