"""The Gemma decoder layer, for two experts whose tokens share one attention.

Expert 0 (the VLM) reads images and prompt once; expert 1 (actions) then attends to its keys and
values. Parameter names and axes are those of the official tree: expert 1's carry the suffix `_1`,
and a leading axis l stacks the layers.

In a pi0.5 the flow time enters every norm of expert 1 (adaRMS, as adaLN of arXiv 2212.09748): a
`clock`, one vector per row, gives scale and shift of the normed tokens, and a gate on what the
attention or the MLP behind the norm adds. Without a clock a norm has a learnt scale, and no gate.

Axis letters: b batch, r suffix row (branch x time sample) of one observation, s query token,
u key token, p prefix token, t token of any observation and row, d width, f MLP width, n query head,
k key/value head, g queries per key head (n = k g), e head dimension, z key or value, l layer.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pi0_jax.model.config import ExpertConfig, Pi0Config
from pi0_jax.model.layer_scan import ATTENTION, MLP, save_for_backward
from pi0_jax.model.linen import apply
from pi0_jax.types import Array

Params = dict[str, Any]

# big_vision's value for "do not attend": the softmax gives exactly 0, and a row without any
# allowed key stays finite.
MASKED = -2.3819763e38
_ATTENTION_WEIGHTS = ("q_einsum", "kv_einsum", "attn_vec_einsum")
# The form in which a large policy acts (`model/acting.py`): matrices of the same tokens are one.
QKV, GATING = "qkv_matrix", "gating_matrix"
_LAYER_PARTS = ("mlp", "pre_attention_norm", "pre_ffw_norm")


def rms_norm(x: jax.Array, scale: jax.Array, shift: jax.Array | None = None) -> jax.Array:
    """Returns x / rms(x) * (1 + scale) + shift, [..., d] in x's dtype; statistics are float32."""
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)  # [..., 1]
    normed = x32 * jax.lax.rsqrt(variance + 1e-6)
    normed = normed * (1 + scale.astype(jnp.float32))
    return (normed if shift is None else normed + shift.astype(jnp.float32)).astype(x.dtype)


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
    # Dimension i turns together with i + e/2, as in the official weights; interleaved pairs
    # (i, i + 1) would need permuted weights.
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # [..., s, n, e/2] each
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with its scale, stored as an offset from 1: zeros mean "no scaling"."""

    @nn.compact
    def __call__(
        self, x: jax.Array, clock: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Normalises the last axis of [..., s, d].

        Args:
            x: tokens.
            clock: [..., d] for adaRMS; None for a learnt scale.

        Returns:
            The normed tokens, and the gate [..., 1, d] of adaRMS or None.
        """
        width = x.shape[-1]
        if clock is None:
            return rms_norm(x, self.param("scale", nn.initializers.zeros, (width,))), None
        # The official name, and zeros: a fresh layer adds nothing.
        dense = nn.Dense(
            3 * width, True, x.dtype, kernel_init=nn.initializers.zeros, name="Dense_0"
        )
        # One vector for all tokens of a row: [..., 1, 3 d]
        modulation = save_for_backward(dense(clock), ATTENTION)[..., None, :]
        scale, shift, gate = jnp.split(modulation, 3, axis=-1)
        return rms_norm(x, scale, shift), gate


def add(x: jax.Array, branch: jax.Array, gate: jax.Array | None) -> jax.Array:
    """The residual sum x + gate * branch, [..., s, d]; without a gate x + branch."""
    return x + (branch if gate is None else gate * branch)


class Einsum(nn.Module):
    """One weight `w` applied to every token by an einsum, cast to the dtype of its input."""

    shape: tuple[int, ...]
    fan_in: int

    @nn.compact
    def __call__(self, equation: str, x: jax.Array, features: int = 1) -> jax.Array:
        """Einsum of x with w; axis t of `equation` stands for all but x's last `features` axes."""
        w = self.param("w", nn.initializers.normal(self.fan_in**-0.5), self.shape)
        # A weight's gradient sums over t alone: over two axes, XLA's CPU compiler would first
        # write out a transposed copy of all tokens (docs/performance.md).
        tokens = x.reshape(-1, *x.shape[-features:])  # [t, d] or [t, n, e]
        out = jnp.einsum(equation, tokens, w.astype(x.dtype))
        return out.reshape(*x.shape[:-features], *out.shape[1:])


class Attention(nn.Module):
    """Query, key, value and output projections; the attention itself is `attend`."""

    config: Pi0Config
    width: int

    def setup(self) -> None:
        """Declares the three official weights, and the one in place of the first two."""
        c = self.config
        heads, width, dim = c.num_heads, self.width, c.head_dim
        self.q_einsum = Einsum((heads, width, dim), fan_in=width)
        self.kv_einsum = Einsum((2, c.num_kv_heads, width, dim), fan_in=width)
        self.attn_vec_einsum = Einsum((heads, dim, width), fan_in=heads * dim)
        self.qkv_matrix = Einsum((width, (heads + 2 * c.num_kv_heads) * dim), fan_in=width)

    def qkv(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[..., s, d] to rotated, scaled q [..., s, n, e] and rotated k, v [..., s, k, e]."""
        if self.has_variable("params", QKV):
            q, k, v = self._split(x)
        else:
            q, (k, v) = self.q_einsum("td,nde->tne", x), self._key_value(x)
        # 1 / sqrt(e) is applied to q, as in Gemma, and never again to the logits.
        q = save_for_backward(rope(q, positions) * self.config.head_dim**-0.5, ATTENTION)
        return q, *_rotated(k, v, positions)

    def key_value(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., s, d] to rotated k and plain v, each [..., s, k, e]."""
        one = self.has_variable("params", QKV)
        k, v = self._split(x)[1:] if one else self._key_value(x)
        return _rotated(k, v, positions)

    def _key_value(self, x: jax.Array) -> jax.Array:
        # [..., s, z, k, e] to one [..., s, k, e] for each z
        return jnp.moveaxis(self.kv_einsum("td,zkde->tzke", x), -3, 0)

    def _split(self, x: jax.Array) -> list[jax.Array]:
        """Plain q [..., s, n, e] and k, v [..., s, k, e] of one product."""
        heads, kv_heads = self.config.num_heads, self.config.num_kv_heads
        projected = self.qkv_matrix("td,dm->tm", x)  # [..., s, (n + 2 k) e]
        apart = projected.reshape(*x.shape[:-1], heads + 2 * kv_heads, -1)
        return jnp.split(apart, [heads, heads + kv_heads], axis=-2)

    def out(self, attended: jax.Array) -> jax.Array:
        """[..., s, n, e] to [..., s, d]."""
        return save_for_backward(
            self.attn_vec_einsum("tne,ned->td", attended, features=2), ATTENTION
        )


def _rotated(k: jax.Array, v: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    return save_for_backward(rope(k, positions), ATTENTION), save_for_backward(v, ATTENTION)


class Mlp(nn.Module):
    """Gated MLP, gelu(x W0) * (x W1) W2 (arXiv 2002.05202)."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d] to [..., d]."""
        width = x.shape[-1]
        tokens = x.reshape(-1, width)  # [t, d], as in `Einsum`
        if self.has_variable("params", GATING):
            # One matrix [d, 2 f] or two [d, f].
            products = [tokens @ w.astype(x.dtype) for w in self.get_variable("params", GATING)]
            gate, value = products if len(products) == 2 else jnp.split(products[0], 2, axis=-1)
        else:
            # The gating weights are [z, d, f], one matrix for the gate and one for the value.
            init = nn.initializers.lecun_normal(batch_axis=(0,))
            gating = self.param("gating_einsum", init, (2, width, self.mlp_dim)).astype(x.dtype)
            gate, value = (save_for_backward(tokens @ w, MLP) for w in gating)  # [t, f]
        linear = self.param("linear", nn.initializers.lecun_normal(), (self.mlp_dim, width))
        return ((nn.gelu(gate) * value) @ linear.astype(x.dtype)).reshape(x.shape)  # [..., d]


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

    def qkv(
        self, x: jax.Array, positions: jax.Array, clock: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
        """Queries, keys and values as in `Attention.qkv`, and the gate of the attention's output.

        Args:
            x: tokens [..., s, d].
            positions: int32[..., s].
            clock: [..., d] in a layer with adaRMS.
        """
        normed, gate = self.pre_attention_norm(x, clock)
        return *self.attn.qkv(normed, positions), gate

    def key_value(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projects tokens to keys and values: nothing else of the prefix's last layer is read."""
        normed, _ = self.pre_attention_norm(x)
        return self.attn.key_value(normed, positions)

    def finish(
        self,
        x: jax.Array,
        attended: jax.Array,
        gate: jax.Array | None = None,
        clock: jax.Array | None = None,
    ) -> jax.Array:
        """Adds the attention's output, then the MLP's: [..., s, d] to [..., s, d].

        Args:
            x: tokens before the layer.
            attended: [..., s, n, e].
            gate: of the attention's output, as `qkv` gave it.
            clock: [..., d] in a layer with adaRMS.
        """
        x = add(x, self.attn.out(attended), gate)
        normed, gate = self.pre_ffw_norm(x, clock)
        return add(x, self.mlp(normed), gate)

    def __call__(
        self, x: jax.Array, positions: jax.Array, clock: jax.Array | None = None
    ) -> jax.Array:
        """Self-attention without a mask: only to create the parameters."""
        q, k, v, gate = self.qkv(x, positions, clock)
        mask = jnp.ones((x.shape[0], 1, x.shape[1]), bool)  # [b, 1, s]
        attended = attend(q[:, None], (k, v, mask))  # [b, 1, s, n, e]: one row
        return self.finish(x, attended[:, 0], gate, clock)


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
    # Row r, token s and query g next to each other: `_product` makes them one matrix per b and k.
    q = jnp.moveaxis(q.reshape(*shape[:3], kv_heads, -1, shape[-1]), 3, 1)  # [b, k, r, s, g, e]
    logits = _product("bkqe,bpke->bkqp", q, prefix_k, jnp.float32)  # [b, k, r, s, g, p]
    allowed = prefix_mask[:, None, None, :, None]  # [b, 1, 1, 1 or s, 1, p]
    logits = jnp.where(allowed, logits, MASKED)
    if own is None:
        weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)  # [b, k, r, s, g, p]
        attended = _product("bkqp,bpke->bkqe", weights, prefix_v, q.dtype)  # [b, k, r, s, g, e]
    else:
        own_k, own_v, own_mask = own
        own_logits = _product("bkrqe,bruke->bkrqu", q, own_k, jnp.float32)  # [b, k, r, s, g, u]
        own_logits = jnp.where(own_mask[:, None], own_logits, MASKED)  # the mask is [s, 1, u] here
        # One softmax over prefix and own keys: the weights of a query sum to 1 over both.
        both = jnp.concatenate([logits, own_logits], axis=-1)  # [b, k, r, s, g, p + u]
        weights = jax.nn.softmax(both, axis=-1).astype(q.dtype)
        prefix_weights, own_weights = jnp.split(weights, [prefix_k.shape[1]], axis=-1)
        attended = _product("bkqp,bpke->bkqe", prefix_weights, prefix_v, q.dtype)
        attended += _product("bkrqu,bruke->bkrqe", own_weights, own_v, q.dtype)
    return jnp.moveaxis(attended, 1, 3).reshape(shape)  # [b, r, s, k, g, e], then [b, r, s, n, e]


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
    allowed = jnp.broadcast_to(allowed, (batch, length, allowed.shape[-1]))  # [b, s, p]
    allowed = jnp.tile(allowed, (1, rows, 1))  # [b, r s, p]
    if own is not None:
        own_k, own_v, own_mask = own
        # The keys of the prefix, then those of all rows: [b, p + r u, k, e].
        k, v = (
            jnp.concatenate([shared, own_part.reshape(batch, -1, *own_part.shape[3:])], axis=1)
            for shared, own_part in ((k, own_k), (v, own_v))
        )
        # A query reads the own keys of its row only: a block-diagonal mask.
        same_row = jnp.eye(rows, dtype=bool)[:, None, :, None]  # [r, 1, r, 1]
        apart = jnp.reshape(same_row & own_mask[:, None], (rows * length, -1))  # [r s, r u]
        apart = jnp.broadcast_to(apart, (batch, *apart.shape))
        allowed = jnp.concatenate([allowed, apart], axis=2)  # [b, r s, p + r u]
    kernel = "cudnn" if jax.default_backend() == "gpu" else "xla"
    queries = q.reshape(batch, rows * length, *q.shape[3:])  # [b, r s, n, e]
    # q is scaled already: a kernel's own 1 / sqrt(e) would scale it twice.
    attended = jax.nn.dot_product_attention(
        queries, k, v, mask=allowed[:, None], scale=1.0, implementation=kernel
    )
    return save_for_backward(attended, ATTENTION).reshape(q.shape)


ATTENTIONS = {"einsum": attend, "fused": attend_fused}


def _product(equation: str, x: jax.Array, y: jax.Array, dtype: Any) -> jax.Array:
    """An einsum in which axis q stands for all of x's axes from there up to its last one.

    So all queries of one key head are the rows of one matrix, and no key is copied. For
    "bkqe,bpke->bkqp", x [b, k, r, s, g, e] and y [b, p, k, e] give [b, k, r, s, g, p].
    """
    merged = x.reshape(*x.shape[: equation.index("q")], -1, x.shape[-1])  # [b, k, q, e], q = r s g
    # Logits leave the product as float32: rounded to bfloat16 they would spoil the softmax.
    out = save_for_backward(
        jnp.einsum(equation, merged, y, preferred_element_type=dtype), ATTENTION
    )
    return out.reshape(*x.shape[:-1], out.shape[-1])  # q apart again: [b, k, r, s, g, p]


def expert_layers(llm: Params, expert: int) -> Params:
    """Takes one expert's stacked layers out of the official tree, as `DecoderLayer` parameters.

    Adapters (`model/lora.py`) are a tree of the same form without the norms.
    """
    suffix = _suffix(expert)
    layers = llm["layers"]
    weights = [name for name in (*_ATTENTION_WEIGHTS, QKV) if name + suffix in layers["attn"]]
    attention = {name: layers["attn"][name + suffix] for name in weights}
    # Adapters have no norms: what is missing is left out.
    parts = [name for name in _LAYER_PARTS if name + suffix in layers]
    return {"attn": attention} | {name: layers[name + suffix] for name in parts}


def final_norm(llm: Params, expert: int, x: jax.Array, clock: jax.Array | None = None) -> jax.Array:
    """Applies the norm behind the last layer of an expert, [..., s, d]; `clock` as in `RMSNorm`."""
    return apply(RMSNorm(), llm[f"final_norm{_suffix(expert)}"], x, clock)[0]


def embed_tokens(llm: Params, tokens: Array, dtype: jnp.dtype) -> jax.Array:
    """int32[b, t] to [b, t, d], times sqrt(d) in the parameters' dtype (as Gemma does)."""
    table = llm["embedder"]["input_embedding"]
    embedded = table[tokens]  # [b, t, d]
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
        tokens = jnp.zeros((1, 1, sizes.width))
        clock = tokens[:, 0] if config.pi05 and expert == 1 else None
        stacked = _init_layers(config, sizes, expert_rng, tokens, clock)
        layers["attn"] |= {f"{name}{suffix}": w for name, w in stacked.pop("attn").items()}
        layers |= {f"{name}{suffix}": part for name, part in stacked.items()}
        tree[f"final_norm{suffix}"] = RMSNorm().init(expert_rng, tokens, clock)["params"]
    table = jax.random.normal(embed_rng, (config.vocab_size, config.vlm.width))
    # `embed_tokens` multiplies by sqrt(width): with this scale a token has unit variance.
    tree["embedder"] = {"input_embedding": table * config.vlm.width**-0.5}
    return tree


def _init_layers(
    config: Pi0Config,
    sizes: ExpertConfig,
    rng: jax.Array,
    tokens: jax.Array,
    clock: jax.Array | None,
) -> Params:
    """Layers for such tokens [1, 1, d] and such a clock [1, d] or None."""
    layer = DecoderLayer(config, sizes)
    example = tokens, jnp.zeros((1, 1), jnp.int32), clock
    # One draw per layer, stacked along l: the parameters of a loop over depth.
    keys = jax.random.split(rng, config.depth)
    return dict(jax.vmap(lambda key: layer.init(key, *example)["params"])(keys))


def _suffix(expert: int) -> str:
    return f"_{expert}" if expert else ""
