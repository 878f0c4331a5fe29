"""What the network may and may not depend on."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from passes import rows, velocity
from tiny import CONFIG, MODEL

from pi0_jax.model.config import preset
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0, scale_images, time_embedding
from pi0_jax.testing import observation

HORIZON, DIM = CONFIG.action_horizon, CONFIG.action_dim
HALF = Pi0(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))


def test_shapes_and_dtype(params):
    v = velocity(params, observation(3), *rows(3))
    chex.assert_shape(v, (3, 2, HORIZON, DIM))
    assert v.dtype == jnp.float32
    assert np.isfinite(v).all()


def test_a_masked_camera_is_an_absent_camera(params):
    """The same velocity to rounding, whatever the masked picture shows."""
    obs = observation(3)
    masked = obs.replace(image_mask=np.array([[True, False]] * 3))
    absent = obs.replace(images=obs.images[:, :1], image_mask=obs.image_mask[:, :1])
    v = velocity(params, masked, *rows(3))
    np.testing.assert_allclose(v, velocity(params, absent, *rows(3)), atol=2e-5)
    other = masked.replace(images=masked.images.copy())
    other.images[:, 1] = 255 - other.images[:, 1]
    np.testing.assert_array_equal(v, velocity(params, other, *rows(3)))
    # The test can fail: a camera that is there counts.
    assert np.abs(v - velocity(params, obs, *rows(3))).max() > 1e-2


def test_padding_of_the_prompt_is_not_read(params):
    obs = observation(3)
    garbage = obs.replace(prompt=np.where(obs.prompt_mask, obs.prompt, 77))
    v = velocity(params, obs, *rows(3))
    np.testing.assert_array_equal(v, velocity(params, garbage, *rows(3)))


def test_observations_of_a_batch_do_not_meet(params):
    obs, other = observation(3), observation(3, seed=1)
    mixed = jax.tree.map(lambda a, b: np.concatenate([a[:1], b[1:]]), obs, other)
    both = zip(rows(3), rows(3, seed=1), strict=True)
    v = velocity(params, obs, *rows(3))
    w = velocity(params, mixed, *(np.concatenate([a[:1], b[1:]]) for a, b in both))
    np.testing.assert_allclose(v[0], w[0], atol=1e-5)


def test_rows_do_not_meet(params):
    obs, (x_t, time, condition) = observation(3), rows(3)
    v = velocity(params, obs, x_t, time, condition)
    turned = velocity(params, obs, x_t[:, ::-1], time[:, ::-1], condition[:, ::-1])
    np.testing.assert_allclose(v, turned[:, ::-1], atol=1e-5)


def test_zero_cond_embed_makes_conditions_agree_bit_for_bit(blind_params, params):
    obs, (x_t, time, _) = observation(3), rows(3)
    positive, any_behaviour = np.full((3, 2), POSITIVE), np.full((3, 2), UNCONDITIONAL)
    v = velocity(blind_params, obs, x_t, time, any_behaviour)
    np.testing.assert_array_equal(v, velocity(blind_params, obs, x_t, time, positive))
    np.testing.assert_array_equal(v, velocity(blind_params, obs, x_t, time, None))
    trained = [velocity(params, obs, x_t, time, c) for c in (positive, any_behaviour)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3


def test_the_state_never_sees_actions(params):
    """Neither noise nor time nor condition reach the state's token, in any layer."""
    obs = observation(3)
    cache = jax.jit(MODEL.encode_prefix)(params, obs)

    @jax.jit
    def decoded(x_t, time, condition):
        tokens = MODEL.embed_suffix(params, obs.state, x_t, time, condition)
        return MODEL.decode_suffix(params, cache, tokens)

    a, b = decoded(*rows(3)), decoded(*rows(3, seed=1))
    np.testing.assert_array_equal(a[:, :, 0], b[:, :, 0])
    assert np.abs(a[:, :, 1:] - b[:, :, 1:]).min() > 0


def test_actions_see_the_state_and_each_other(params):
    obs, (x_t, time, condition) = observation(3), rows(3)
    v = velocity(params, obs, x_t, time, condition)
    moved = velocity(params, obs.replace(state=obs.state + 1), x_t, time, condition)
    assert (np.abs(v - moved).max((-1, -2)) > 1e-3).all()
    last = x_t.copy()
    last[:, :, -1] += 1
    first = np.abs(velocity(params, obs, last, time, condition) - v)[:, :, 0]
    assert (first.max(-1) > 1e-5).all()


def test_the_prefix_is_unaffected_by_the_suffix(params):
    """It is computed before there is one: of state and noise it knows nothing."""
    obs = observation(3)
    encode = jax.jit(MODEL.encode_prefix)
    cache, other = encode(params, obs), encode(params, obs.replace(state=obs.state + 1))
    chex.assert_trees_all_equal(cache, other)
    p = 2 * CONFIG.vision.num_tokens + CONFIG.prompt_length
    chex.assert_shape([cache.k, cache.v], (2, 3, p, 2, 4))
    assert cache.mask.sum(1).tolist() == [8 + 3, 8 + 4, 8 + 5]


def test_the_last_prefix_layers_unused_weights_get_no_gradient(params):
    obs, suffix = observation(3), rows(3)

    vlm = params["PaliGemma"]["llm"]["layers"]

    # By the layers alone: behind them are the pictures, and a second of compiling for each layer.
    @jax.jit
    @jax.grad
    def gradient(layers):
        llm = params["PaliGemma"]["llm"] | {"layers": layers}
        given = params | {"PaliGemma": params["PaliGemma"] | {"llm": llm}}
        return jnp.sum(jnp.square(velocity(given, obs, *suffix)))

    grads = gradient(vlm)
    read = {"kv_einsum": grads["attn"]["kv_einsum"], "norm": grads["pre_attention_norm"]}
    unused = {
        "q_einsum": grads["attn"]["q_einsum"],
        "attn_vec_einsum": grads["attn"]["attn_vec_einsum"],
        "pre_ffw_norm": grads["pre_ffw_norm"],
        "mlp": grads["mlp"],
    }
    for leaf in jax.tree.leaves(unused):
        assert np.abs(leaf[0]).max() > 0
        np.testing.assert_array_equal(leaf[1], 0)
    for leaf in jax.tree.leaves(read):
        assert (np.abs(leaf).reshape(2, -1).max(1) > 0).all()


def test_bfloat16_computes_and_float32_comes_out(params):
    obs, suffix = observation(3), rows(3)
    cache = jax.eval_shape(HALF.encode_prefix, params, obs)
    assert {cache.k.dtype, cache.v.dtype} == {jnp.dtype("bfloat16")}
    v = velocity(params, obs, *suffix, model=HALF)
    assert v.dtype == jnp.float32
    exact = velocity(params, obs, *suffix)
    scale = np.abs(exact).max()
    assert 1e-5 * scale < np.abs(v - exact).max() < 0.1 * scale


def test_parameters_may_be_held_in_bfloat16(params):
    held = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    suffix = rows(3)
    cache = jax.eval_shape(HALF.encode_prefix, held, observation(3))
    v = jax.eval_shape(HALF.velocity, held, cache, observation(3).state, *suffix)
    assert (v.dtype, cache.k.dtype) == (jnp.float32, jnp.bfloat16)


def test_the_published_size():
    """The official 3,238,048,528 parameters, and two rows of cond_embed."""
    shapes = Pi0(preset("pi0")).shapes()
    assert shapes["cond_embed"].shape == (2, 1024)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 3_238_048_528 + 2048


def test_fresh_parameters():
    """Finite, float32, no condition yet, and another seed gives others."""
    init = jax.jit(MODEL.init)
    fresh, other = init(jax.random.key(0)), init(jax.random.key(1))
    chex.assert_tree_all_finite(fresh)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(fresh["cond_embed"], 0)
    same = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, a), b in zip(
            jax.tree_util.tree_flatten_with_path(fresh)[0], jax.tree.leaves(other), strict=True
        )
        if np.array_equal(a, b)
    ]
    constant = ("bias", "scale", "cond_embed")
    assert [name for name in same if not name.endswith(constant)] == []


def test_images_are_scaled_once():
    scaled = scale_images(jnp.array([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(scaled, [-1, -0.6, 1], atol=1e-6)
    np.testing.assert_array_equal(scale_images(scaled), scaled)


def test_time_embedding_by_hand():
    """Width 4: periods 4e-3 and 4; at t = 1 both sines are at a multiple of a quarter."""
    embedding = time_embedding(jnp.array([0.0, 1.0, 0.001]), 4)
    expected = [[0, 0, 1, 1], [0, 1, 1, 0], [1, np.sin(np.pi / 2000), 0, 1]]
    np.testing.assert_allclose(embedding, expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_rows(params, count):
    shapes = jax.eval_shape(velocity, params, observation(3), *rows(3, count))
    chex.assert_shape(shapes, (3, count, HORIZON, DIM))
