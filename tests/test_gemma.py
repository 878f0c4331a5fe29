"""The decoder layer's parts against definitions written out in NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG

from pi0_jax.model import gemma


def test_rms_norm_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    # rms of (3, 4) is 5 / sqrt 2; the scale is relative to 1; a zero vector stays finite.
    expected = np.array([[0.6, 0.8 * 1.5], [0, 0]]) * np.sqrt(2)
    chex.assert_trees_all_close(gemma.rms_norm(x, jnp.array([0.0, 0.5])), expected, atol=1e-6)


def test_rms_norm_computes_in_float32():
    x = jnp.full((256,), 300.0, jnp.bfloat16)  # its squares and their sum need float32
    normed = gemma.rms_norm(x, jnp.zeros(256))
    assert normed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(normed.astype(np.float32), 1.0)


def test_adaptive_norm_by_hand():
    """The clock (1, 2) times the kernel, plus the bias, is (scale, shift, gate) of two numbers."""
    x, clock = jnp.array([[3.0, 4.0], [0.0, 0.0]]), jnp.array([1.0, 2.0])
    kernel = np.zeros((2, 6))
    kernel[0, 0], kernel[1, 3] = 1, 5  # scale of the first number 1, shift of the second 10
    bias = np.array([0, 0, 0, 0, 7, 8])
    weights = {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias, jnp.float32)}}
    normed, gate = gemma.RMSNorm().apply({"params": weights}, x, clock)
    rms = 5 / np.sqrt(2)
    np.testing.assert_allclose(normed, [[3 / rms * 2, 4 / rms + 10], [0, 10]], rtol=1e-6)
    np.testing.assert_array_equal(gate, [[7, 8]])  # one gate for both tokens


def test_a_fresh_adaptive_layer_is_the_identity():
    """Modulation of zero: a gate of 0 adds neither the attention's output nor the MLP's."""
    layer = gemma.DecoderLayer(CONFIG, CONFIG.action)
    x = jax.random.normal(jax.random.key(0), (2, 5, CONFIG.action.width))
    clock, positions = x[:, 0], jnp.zeros((2, 5), jnp.int32)

    @jax.jit
    def fresh(key):
        weights = layer.init(key, x, positions, clock)
        return weights, layer.apply(weights, x, positions, clock)

    weights, found = fresh(jax.random.key(1))
    np.testing.assert_array_equal(found, x)
    shape = weights["params"]["pre_ffw_norm"]["Dense_0"]["kernel"].shape
    assert shape == (CONFIG.action.width, 3 * CONFIG.action.width)


def test_add_gates_the_branch():
    x, branch = jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 10.0]])
    np.testing.assert_array_equal(gemma.add(x, branch, None), [[11, 12]])
    np.testing.assert_array_equal(gemma.add(x, branch, jnp.array([[0.5, 0]])), [[6, 2]])


def test_rope_by_hand():
    """Four numbers are two planes (x0, x2) and (x1, x3), turned by p and p / 100."""
    x = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4)
    c, s, c2, s2 = np.cos(5), np.sin(5), np.cos(0.05), np.sin(0.05)
    turned = gemma.rope(x, jnp.array([5]))
    chex.assert_trees_all_close(turned.ravel(), np.array([c, c2, s, s2]), atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 500))
def test_rope_keeps_norms_and_sees_distances_only(p, q, shift):
    rng = np.random.default_rng(p)
    a, b = rng.standard_normal((2, 1, 1, 8), np.float32)

    def turned(x, position):
        return np.asarray(gemma.rope(jnp.asarray(x), jnp.array([position])))

    np.testing.assert_allclose(np.linalg.norm(turned(a, p)), np.linalg.norm(a), rtol=1e-5)
    near, far = (np.vdot(turned(a, p + s), turned(b, q + s)) for s in (0, shift))
    np.testing.assert_allclose(near, far, atol=1e-3)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def naive_attention(q, prefix_k, prefix_v, prefix_mask, k, v, mask) -> np.ndarray:
    """One row, one query and one head at a time, in float64; arguments as `gemma.attend`."""
    batch, rows, queries, heads, _ = q.shape
    group = heads // prefix_k.shape[2]
    out = np.zeros(q.shape)
    for b, r, s, n in np.ndindex(batch, rows, queries, heads):
        keys = np.concatenate([prefix_k[b, :, n // group], k[b, r, :, n // group]])
        values = np.concatenate([prefix_v[b, :, n // group], v[b, r, :, n // group]])
        allowed = np.concatenate([prefix_mask[b, s], mask[s]])
        weights = softmax((keys @ q[b, r, s, n])[allowed])
        out[b, r, s, n] = weights @ values[allowed]
    return out


def tensors(kv_heads: int, rows: int = 3, queries: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    q = normal((2, rows, queries, 4, 6))
    prefix_k, prefix_v = normal((2, 2, 5, kv_heads, 6))
    k, v = normal((2, 2, rows, queries, kv_heads, 6))
    prefix_mask = rng.random((2, queries, 5)) < 0.6
    prefix_mask[1] = False  # an observation without a real prefix token
    mask = np.tril(np.ones((queries, queries), bool))
    return q, prefix_k, prefix_v, prefix_mask, k, v, mask


@pytest.fixture(params=sorted(gemma.ATTENTIONS), scope="module")
def attend(request):
    return jax.jit(gemma.ATTENTIONS[request.param])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attend_is_softmax_attention(attend, kv_heads):
    q, pk, pv, pm, k, v, m = tensors(kv_heads)
    arrays = [jnp.asarray(x, x.dtype if x.dtype == bool else jnp.float32) for x in (q, pk, pv, pm)]
    own = jnp.asarray(k, jnp.float32), jnp.asarray(v, jnp.float32), jnp.asarray(m)
    found = attend(arrays[0], tuple(arrays[1:]), own)
    chex.assert_shape(found, q.shape)
    np.testing.assert_allclose(found, naive_attention(q, pk, pv, pm, k, v, m), atol=2e-6)


def test_attend_without_own_tokens(attend):
    """The prefix itself: its keys are all there is."""
    q, pk, pv, pm, _, _, _ = tensors(2, rows=1)
    pm[1, :, 0] = True
    found = attend(jnp.asarray(q), tuple(map(jnp.asarray, (pk, pv, pm))))
    none = np.zeros((2, 1, 0, 2, 6))
    expected = naive_attention(q, pk, pv, pm, none, none, np.zeros((4, 0), bool))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_token_that_may_see_nothing_stays_finite(attend):
    q, pk, pv, pm, _, _, _ = (jnp.asarray(x) for x in tensors(2))
    assert np.isfinite(attend(q, (pk, pv, jnp.zeros_like(pm)))).all()


def test_rows_share_the_prefix_and_nothing_else(attend):
    q, pk, pv, pm, k, v, m = tensors(2)
    both = attend(*(jnp.asarray(q),), (pk, pv, pm), (k, v, m))
    for row in range(q.shape[1]):
        one = slice(row, row + 1)
        alone = attend(jnp.asarray(q[:, one]), (pk, pv, pm), (k[:, one], v[:, one], m))
        np.testing.assert_allclose(both[:, one], alone, atol=1e-6)


def test_masked_keys_weigh_exactly_nothing(attend):
    q, pk, pv, pm, k, v, m = tensors(1)
    garbage = np.where(pm.any(1)[..., None, None], pk, 1e4)
    clean = attend(jnp.asarray(q), (pk, pv, pm), (k, v, m))
    np.testing.assert_array_equal(clean, attend(jnp.asarray(q), (garbage, pv, pm), (k, v, m)))


def test_mlp_is_gated():
    rng = np.random.default_rng(0)
    x, gate, up, down = (rng.standard_normal(shape) for shape in ((5, 3), (3, 7), (3, 7), (7, 3)))
    weights = {"gating_einsum": np.stack([gate, up]), "linear": down}
    found = gemma.Mlp(7).apply({"params": weights}, jnp.asarray(x, jnp.float32))
    hidden = x @ gate
    gelu = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    np.testing.assert_allclose(found, gelu * (x @ up) @ down, atol=1e-4)


def test_tokens_enter_times_the_root_of_the_width():
    table = jnp.arange(12.0).reshape(3, 4)
    embedded = gemma.embed_tokens(
        {"embedder": {"input_embedding": table}}, jnp.array([[2, 0]]), jnp.dtype("float32")
    )
    np.testing.assert_array_equal(embedded, 2 * np.array([[[8, 9, 10, 11], [0, 1, 2, 3]]]))


def test_the_tree_is_the_official_one():
    tree = jax.eval_shape(lambda: gemma.init(CONFIG, jax.random.key(0)))
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
    # l 2 layers, n 4 heads, k 2 key heads, e 4, widths 16 and 12, MLP widths 24 and 16.
    assert shapes == {
        "embedder/input_embedding": (258, 16),
        "final_norm/scale": (16,),
        "final_norm_1/scale": (12,),
        "layers/attn/q_einsum/w": (2, 4, 16, 4),
        "layers/attn/q_einsum_1/w": (2, 4, 12, 4),
        "layers/attn/kv_einsum/w": (2, 2, 2, 16, 4),
        "layers/attn/kv_einsum_1/w": (2, 2, 2, 12, 4),
        "layers/attn/attn_vec_einsum/w": (2, 4, 4, 16),
        "layers/attn/attn_vec_einsum_1/w": (2, 4, 4, 12),
        "layers/mlp/gating_einsum": (2, 2, 16, 24),
        "layers/mlp/linear": (2, 24, 16),
        "layers/mlp_1/gating_einsum": (2, 2, 12, 16),
        "layers/mlp_1/linear": (2, 16, 12),
        "layers/pre_attention_norm/scale": (2, 16),
        "layers/pre_attention_norm_1/scale": (2, 12),
        "layers/pre_ffw_norm/scale": (2, 16),
        "layers/pre_ffw_norm_1/scale": (2, 12),
    }


def test_layers_start_different():
    names = ("q_einsum", "q_einsum_1", "kv_einsum")

    @jax.jit
    def drawn(key):
        attention = gemma.init(CONFIG, key)["layers"]["attn"]
        return {name: attention[name]["w"] for name in names}  # only these are compiled

    for name, (first, second) in drawn(jax.random.key(0)).items():
        assert not np.allclose(first, second), name
