"""The Gemma decoder layer, for two experts whose tokens share one attention.

Expert 0 (the VLM) reads images and prompt once; expert 1 (actions) then attends to its keys and
values. Parameter names and axes are those of the official tree: expert 1's carry the suffix `_1`,
and a leading axis l stacks the layers.

Axis letters: b batch, r suffix row (branch x time sample) of one observation, s query token,
u key token, p prefix token, t token of any observation and row, d width, f MLP width, n query head,
k key/value head, g queries a key head (n = k g), e head dimension, z key or value, l layer.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pi0_jax.model.config import ExpertConfig, Pi0Config
from pi0_jax.model.layer_scan import ATTENTION, MLP, keep
from pi0_jax.types import Array

Params = dict[str, Any]

# big_vision's value for "do not attend": the softmax gives exactly 0, and a row without any
# allowed key stays finite.
MASKED = -2.3819763e38
_ATTENTION_WEIGHTS = ("q_einsum", "kv_einsum", "attn_vec_einsum")
_LAYER_PARTS = ("mlp", "pre_attention_norm", "pre_ffw_norm")


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """X / rms(x) * (1 + scale), statistics in float32; [..., d] to [..., d] in x's dtype."""
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    normed = x32 * jax.lax.rsqrt(variance + 1e-6)
    return (normed * (1 + scale.astype(jnp.float32))).astype(x.dtype)


def rope(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotary embedding, half-split form, base 10000 (RoFormer, arXiv 2104.09864).

    Args:
        x: [..., s, heads, e].
        positions: int32[..., s].

    Returns:
        Rotated x in its own dtype; angles are float32.
    """
    half = x.shape[-1] // 2
    timescale = 10_000.0 ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) / timescale  # [..., s, 1, e/2]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with its scale; zero scale is the identity direction."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis of [..., d]."""
        return rms_norm(x, self.param("scale", nn.initializers.zeros, (x.shape[-1],)))


class Einsum(nn.Module):
    """One weight `w` applied to every token by an einsum, cast to the dtype of its input."""

    shape: tuple[int, ...]
    fan_in: int

    @nn.compact
    def __call__(self, equation: str, x: jax.Array, features: int = 1) -> jax.Array:
        """Einsum of x [..., features] with w, where `equation` has one axis t for the others."""
        w = self.param("w", nn.initializers.normal(self.fan_in**-0.5), self.shape)
        # A weight's gradient sums over t alone: over two axes, XLA's CPU compiler would first
        # write out a transposed copy of all tokens (docs/performance.md).
        tokens = x.reshape(-1, *x.shape[-features:])
        out = jnp.einsum(equation, tokens, w.astype(x.dtype))
        return out.reshape(*x.shape[:-features], *out.shape[1:])


class Attention(nn.Module):
    """Query, key, value and output projections; the attention itself is `attend`."""

    config: Pi0Config
    width: int

    def setup(self) -> None:
        """Declares the three official weights."""
        c = self.config
        heads, width, dim = c.num_heads, self.width, c.head_dim
        self.q_einsum = Einsum((heads, width, dim), fan_in=width)
        self.kv_einsum = Einsum((2, c.num_kv_heads, width, dim), fan_in=width)
        self.attn_vec_einsum = Einsum((heads, dim, width), fan_in=heads * dim)

    def qkv(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[..., s, d] to rotated, scaled q [..., s, n, e] and rotated k, v [..., s, k, e]."""
        q = self.q_einsum("td,nde->tne", x)
        k, v = self.key_value(x, positions)
        return keep(rope(q, positions) * self.config.head_dim**-0.5, ATTENTION), k, v

    def key_value(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., s, d] to rotated k and plain v, each [..., s, k, e]."""
        k, v = jnp.moveaxis(self.kv_einsum("td,zkde->tzke", x), -3, 0)
        return keep(rope(k, positions), ATTENTION), keep(v, ATTENTION)

    def out(self, attended: jax.Array) -> jax.Array:
        """[..., s, n, e] to [..., s, d]."""
        return keep(self.attn_vec_einsum("tne,ned->td", attended, features=2), ATTENTION)


class Mlp(nn.Module):
    """Gated MLP, gelu(x W0) * (x W1) W2 (arXiv 2002.05202)."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d] to [..., d]."""
        width = x.shape[-1]
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        gating = self.param("gating_einsum", init, (2, width, self.mlp_dim)).astype(x.dtype)
        linear = self.param("linear", nn.initializers.lecun_normal(), (self.mlp_dim, width))
        tokens = x.reshape(-1, width)  # [t, d], as in `Einsum`
        gate, value = (keep(tokens @ w, MLP) for w in gating)  # [t, f]
        return ((nn.gelu(gate) * value) @ linear.astype(x.dtype)).reshape(x.shape)


class DecoderLayer(nn.Module):
    """One layer of one expert, in three steps around the shared attention."""

    config: Pi0Config
    expert: ExpertConfig

    def setup(self) -> None:
        """Declares the parts under their official names."""
        self.pre_attention_norm = RMSNorm()
        self.attn = Attention(self.config, self.expert.width)
        self.pre_ffw_norm = RMSNorm()
        self.mlp = Mlp(self.expert.mlp_dim)

    def qkv(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What this layer's tokens ask, offer and carry."""
        return self.attn.qkv(self.pre_attention_norm(x), positions)

    def key_value(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values only: all that is read of the prefix's last layer."""
        return self.attn.key_value(self.pre_attention_norm(x), positions)

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Adds what was attended to, then the MLP: [..., s, d] to [..., s, d]."""
        x = x + self.attn.out(attended)
        return x + self.mlp(self.pre_ffw_norm(x))

    def __call__(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Self-attention without a mask: only to create the parameters."""
        q, k, v = self.qkv(x, positions)
        mask = jnp.ones((x.shape[0], 1, x.shape[1]), bool)
        attended = attend(q[:, None], (k, v, mask))
        return self.finish(x, attended[:, 0])


def attend(
    q: jax.Array,
    prefix: tuple[jax.Array, jax.Array, jax.Array],
    own: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Attention of the rows r of each observation b over one shared prefix and their own tokens.

    The rows' queries meet the prefix keys in one product, so the cache is never copied per row
    or per head. Logits and softmax are float32; the weights are cast back.

    Args:
        q: [b, r, s, n, e], scaled.
        prefix: k and v [b, p, k, e], mask bool[b, 1 or s, p].
        own: k and v [b, r, u, k, e], mask bool[s, u]; None for the prefix itself.

    Returns:
        [b, r, s, n, e] in q's dtype.
    """
    prefix_k, prefix_v, prefix_mask = prefix
    shape, kv_heads = q.shape, prefix_k.shape[-2]
    q = jnp.moveaxis(q.reshape(*shape[:3], kv_heads, -1, shape[-1]), 3, 1)  # [b, k, r, s, g, e]
    logits = _product("bkqe,bpke->bkqp", q, prefix_k, jnp.float32)  # [b, k, r, s, g, p]
    logits = jnp.where(prefix_mask[:, None, None, :, None], logits, MASKED)
    if own is None:
        weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
        attended = _product("bkqp,bpke->bkqe", weights, prefix_v, q.dtype)
    else:
        own_k, own_v, own_mask = own
        own_logits = _product("bkrqe,bruke->bkrqu", q, own_k, jnp.float32)
        own_logits = jnp.where(own_mask[:, None], own_logits, MASKED)
        both = jnp.concatenate([logits, own_logits], axis=-1)
        weights = jax.nn.softmax(both, axis=-1).astype(q.dtype)
        seen, own_weights = jnp.split(weights, [prefix_k.shape[1]], axis=-1)
        attended = _product("bkqp,bpke->bkqe", seen, prefix_v, q.dtype)
        attended += _product("bkrqu,bruke->bkrqe", own_weights, own_v, q.dtype)
    return jnp.moveaxis(attended, 1, 3).reshape(shape)


def attend_fused(
    q: jax.Array,
    prefix: tuple[jax.Array, jax.Array, jax.Array],
    own: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """`attend` by `jax.nn.dot_product_attention`: cuDNN's kernel on a GPU, elsewhere XLA's.

    The rows of an observation are one sequence of queries over one sequence of keys, in which a
    mask keeps them apart. cuDNN takes bfloat16 only.
    """
    k, v, allowed = prefix
    batch, rows, length = q.shape[:3]
    allowed = jnp.broadcast_to(allowed, (batch, length, allowed.shape[-1]))
    allowed = jnp.tile(allowed, (1, rows, 1))  # [b, r s, p]
    if own is not None:
        own_k, own_v, own_mask = own
        k, v = (
            jnp.concatenate([seen, mine.reshape(batch, -1, *mine.shape[3:])], axis=1)
            for seen, mine in ((k, own_k), (v, own_v))
        )
        same_row = jnp.eye(rows, dtype=bool)[:, None, :, None]
        apart = jnp.reshape(same_row & own_mask[:, None], (rows * length, -1))  # [r s, r u]
        apart = jnp.broadcast_to(apart, (batch, *apart.shape))
        allowed = jnp.concatenate([allowed, apart], axis=2)
    kernel = "cudnn" if jax.default_backend() == "gpu" else "xla"
    asked = q.reshape(batch, rows * length, *q.shape[3:])
    attended = jax.nn.dot_product_attention(
        asked, k, v, mask=allowed[:, None], scale=1.0, implementation=kernel
    )
    return keep(attended, ATTENTION).reshape(q.shape)


ATTENTIONS = {"einsum": attend, "fused": attend_fused}


def _product(equation: str, x: jax.Array, y: jax.Array, dtype: Any) -> jax.Array:
    """An einsum whose axis q merges all between x's leading axes and its last one.

    So all queries of a key head are the rows of one matrix, and no key is copied.
    """
    merged = x.reshape(*x.shape[: equation.index("q")], -1, x.shape[-1])
    out = keep(jnp.einsum(equation, merged, y, preferred_element_type=dtype), ATTENTION)
    return out.reshape(*x.shape[:-1], out.shape[-1])


def expert_layers(llm: Params, expert: int) -> Params:
    """The stacked layers of one expert as `DecoderLayer` parameters, out of the official tree.

    Adapters (`model/lora.py`) are a tree of the same form without the norms.
    """
    suffix = _suffix(expert)
    layers = llm["layers"]
    attention = {name: layers["attn"][name + suffix] for name in _ATTENTION_WEIGHTS}
    parts = [name for name in _LAYER_PARTS if name + suffix in layers]
    return {"attn": attention} | {name: layers[name + suffix] for name in parts}


def final_norm(llm: Params, expert: int, x: jax.Array) -> jax.Array:
    """The norm behind the last layer of an expert."""
    return rms_norm(x, llm[f"final_norm{_suffix(expert)}"]["scale"])


def embed_tokens(llm: Params, tokens: Array, dtype: jnp.dtype) -> jax.Array:
    """int32[b, t] to [b, t, d], times sqrt(d) in the parameters' dtype (as Gemma does)."""
    table = llm["embedder"]["input_embedding"]
    embedded = table[tokens]
    return (embedded * jnp.sqrt(table.shape[-1]).astype(table.dtype)).astype(dtype)


def init(config: Pi0Config, rng: jax.Array) -> Params:
    """Random parameters of both experts in the official tree, float32."""
    embed_rng, *rngs = jax.random.split(rng, 3)
    layers: Params = {"attn": {}}
    tree: Params = {"layers": layers}
    for expert, (sizes, expert_rng) in enumerate(
        zip((config.vlm, config.action), rngs, strict=True)
    ):
        suffix = _suffix(expert)
        stacked = _init_layers(config, sizes, expert_rng)
        layers["attn"] |= {f"{name}{suffix}": w for name, w in stacked.pop("attn").items()}
        layers |= {f"{name}{suffix}": part for name, part in stacked.items()}
        tree[f"final_norm{suffix}"] = {"scale": jnp.zeros(sizes.width)}
    table = jax.random.normal(embed_rng, (config.vocab_size, config.vlm.width))
    # Tokens enter times sqrt(width): this gives them unit variance.
    tree["embedder"] = {"input_embedding": table * config.vlm.width**-0.5}
    return tree


def _init_layers(config: Pi0Config, sizes: ExpertConfig, rng: jax.Array) -> Params:
    layer = DecoderLayer(config, sizes)
    example = jnp.zeros((1, 1, sizes.width)), jnp.zeros((1, 1), jnp.int32)
    keys = jax.random.split(rng, config.depth)
    return dict(jax.vmap(lambda key: layer.init(key, *example)["params"])(keys))


def _suffix(expert: int) -> str:
    return f"_{expert}" if expert else ""
