"""The Gemma decoder layer, for two experts whose tokens share one attention.

Expert 0 (the VLM) reads images and prompt once; expert 1 (actions) then attends to its keys and
values. Parameter names and axes are those of the official tree: expert 1's carry the suffix `_1`,
and a leading axis l stacks the layers.

Axis letters: b batch, r suffix row (branch x time sample) of one observation, s query token,
u key token, p prefix token, d width, f MLP width, n query head, k key/value head, g queries a
key head (n = k g), e head dimension, l layer.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pi0_jax.model.config import ExpertConfig, Pi0Config
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
    """One weight `w` applied by an einsum, cast to the dtype of its input."""

    shape: tuple[int, ...]
    fan_in: int

    @nn.compact
    def __call__(self, equation: str, x: jax.Array) -> jax.Array:
        """Einsum of x with w."""
        w = self.param("w", nn.initializers.normal(self.fan_in**-0.5), self.shape)
        return jnp.einsum(equation, x, w.astype(x.dtype))


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
        q = self.q_einsum("...sd,nde->...sne", x)
        k, v = self.key_value(x, positions)
        return rope(q, positions) * self.config.head_dim**-0.5, k, v

    def key_value(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., s, d] to rotated k and plain v, each [..., s, k, e]."""
        k, v = self.kv_einsum("...sd,zkde->z...ske", x)
        return rope(k, positions), v

    def out(self, attended: jax.Array) -> jax.Array:
        """[..., s, n, e] to [..., s, d]."""
        return self.attn_vec_einsum("...sne,ned->...sd", attended)


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
        hidden = nn.gelu(x @ gating[0]) * (x @ gating[1])  # [..., f]
        return hidden @ linear.astype(x.dtype)


class DecoderLayer(nn.Module):
    """One layer of one expert, in three steps around the shared attention.

    With `remat_mlp` the backward pass computes the MLP's hidden values again.
    """

    config: Pi0Config
    expert: ExpertConfig
    remat_mlp: bool = False

    def setup(self) -> None:
        """Declares the parts under their official names."""
        self.pre_attention_norm = RMSNorm()
        self.attn = Attention(self.config, self.expert.width)
        self.pre_ffw_norm = RMSNorm()
        mlp = nn.remat(Mlp) if self.remat_mlp else Mlp
        self.mlp = mlp(self.expert.mlp_dim)

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
    kv_heads = prefix_k.shape[-2]
    q = q.reshape(*q.shape[:3], kv_heads, -1, q.shape[-1])  # [b, r, s, k, g, e]
    logits = jnp.einsum("brskge,bpke->brkgsp", q, prefix_k, preferred_element_type=jnp.float32)
    logits = jnp.where(prefix_mask[:, None, None, None], logits, MASKED)
    if own is None:
        weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
        attended = jnp.einsum("brkgsp,bpke->brskge", weights, prefix_v)
    else:
        own_k, own_v, own_mask = own
        own_logits = jnp.einsum(
            "brskge,bruke->brkgsu", q, own_k, preferred_element_type=jnp.float32
        )
        own_logits = jnp.where(own_mask, own_logits, MASKED)
        both = jnp.concatenate([logits, own_logits], axis=-1)
        weights = jax.nn.softmax(both, axis=-1).astype(q.dtype)
        seen, own_weights = jnp.split(weights, [prefix_k.shape[1]], axis=-1)
        attended = jnp.einsum("brkgsp,bpke->brskge", seen, prefix_v)
        attended += jnp.einsum("brkgsu,bruke->brskge", own_weights, own_v)
    return attended.reshape(*attended.shape[:3], -1, attended.shape[-1])


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
