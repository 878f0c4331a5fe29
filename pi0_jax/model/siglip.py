"""SigLIP image tower (ViT without class token or pooling head), as in PaliGemma.

Parameter names and axes are those of the official tree; `encoderblock` stacks the layers.

Axis letters: b image, h w patch row and column, y x pixel within a patch, c colour, p patch as
query, u as key, t patch of any image, d width, n head, e head dimension, o output width, l layer.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pi0_jax.model.config import VisionConfig
from pi0_jax.model.layer_scan import ATTENTION, MLP, save_for_backward, scan_layers
from pi0_jax.model.linen import apply
from pi0_jax.model.mesh import gathered

Params = dict[str, Any]


class MlpBlock(nn.Module):
    """Two dense layers with tanh-approximated GELU."""

    mlp_dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, p, d] to [b, p, d]."""
        width = x.shape[-1]
        tokens = x.reshape(-1, width)  # [t, d], as in `gemma.Einsum`
        hidden = save_for_backward(nn.Dense(self.mlp_dim, dtype=self.dtype)(tokens), MLP)
        return nn.Dense(width, dtype=self.dtype)(nn.gelu(hidden)).reshape(x.shape)


class SelfAttention(nn.Module):
    """Flax's `MultiHeadDotProductAttention` of x with itself, on merged tokens."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, p, d] to [b, p, d]; softmax in the compute dtype, as in big_vision."""
        width = x.shape[-1]
        heads = self.num_heads, width // self.num_heads
        # Patches of all images are one axis for the projections (as in `gemma.Einsum`), and
        # apart again for the attention: [t, d] to [t, n, e] to [b, p, n, e].
        tokens = x.reshape(-1, width)
        q, k, v = (
            save_for_backward(
                nn.DenseGeneral(heads, dtype=self.dtype, name=name)(tokens), ATTENTION
            ).reshape(*x.shape[:2], *heads)
            for name in ("query", "key", "value")
        )
        q = q / jnp.sqrt(heads[1]).astype(self.dtype)
        weights = nn.softmax(
            save_for_backward(jnp.einsum("bpne,bune->bnpu", q, k), ATTENTION)
        )  # [b, n, p, u]
        seen = save_for_backward(jnp.einsum("bnpu,bune->bpne", weights, v), ATTENTION).reshape(
            -1, *heads
        )
        out = nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(seen)  # [t, d]
        return save_for_backward(out, ATTENTION).reshape(x.shape)


class EncoderBlock(nn.Module):
    """Pre-norm transformer block with full attention."""

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, p, d] to [b, p, d]."""
        y = nn.LayerNorm(dtype=self.dtype)(x)
        # Linen would name the module after our class; the official tree has Flax's name.
        heads, name = self.config.num_heads, "MultiHeadDotProductAttention_0"
        x = x + SelfAttention(heads, self.dtype, name=name)(y)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        return x + MlpBlock(self.config.mlp_dim, self.dtype)(y)


def encode(
    params: Params,
    config: VisionConfig,
    images: jax.Array,
    dtype: jnp.dtype,
    remat: str = "none",
) -> jax.Array:
    """Turns images into tokens of the language model's width o.

    Args:
        params: the `img` subtree.
        config: sizes.
        images: float32[b, size, size, 3] in [-1, 1].
        dtype: compute dtype of the transformer; patches and positions are float32.
        remat: which values the backward pass computes again (`model/layer_scan.py`).

    Returns:
        [b, p, o] in `dtype`; the head's output enters the language model unscaled.
    """
    block = EncoderBlock(config, dtype)

    def layer(x: jax.Array, layer_params: Params) -> tuple[jax.Array, None]:
        """One encoder block over x [b, p, d]."""
        return apply(block, gathered(layer_params, dtype), x), None

    x = _embed_patches(params, images).astype(dtype)
    encoder = params["Transformer"]
    x, _ = scan_layers(layer, x, encoder["encoderblock"], config.depth, remat=remat)
    x = apply(nn.LayerNorm(dtype=dtype), encoder["encoder_norm"], x)  # [b, p, d]
    head = gathered(params["head"], dtype)
    return x @ head["kernel"].astype(dtype) + head["bias"].astype(dtype)


def _embed_patches(params: Params, images: jax.Array) -> jax.Array:
    """float32[b, size, size, 3] to [b, p, d]: a strided convolution is one matrix product."""
    embedding = gathered(params["embedding"], jnp.dtype("float32"))
    kernel = embedding["kernel"].astype(jnp.float32)  # [y, x, c, d]
    batch, height, width, colours = images.shape
    size = kernel.shape[0]
    # [b, h, y, w, x, c]; swapping y and w brings the pixels of one patch together.
    patches = images.reshape(batch, height // size, size, width // size, size, colours)
    pixels = jnp.swapaxes(patches, 2, 3).reshape(-1, size * size * colours)  # [t, y x c]
    embedded = pixels @ kernel.reshape(pixels.shape[-1], -1)  # [t, d]
    tokens = embedded.reshape(batch, -1, kernel.shape[-1]) + embedding["bias"]
    return tokens + params["pos_embedding"]


def init(config: VisionConfig, output_width: int, rng: jax.Array) -> Params:
    """Random parameters in the official tree, float32."""
    patch_rng, position_rng, blocks_rng, head_rng = jax.random.split(rng, 4)
    width, patch = config.width, config.patch_size
    block = EncoderBlock(config, jnp.dtype("float32"))
    blocks = jax.vmap(lambda key: block.init(key, jnp.zeros((1, 1, width)))["params"])(
        jax.random.split(blocks_rng, config.depth)
    )
    # All of y, x and c feed one output: the fan-in of a convolution.
    lecun = nn.initializers.lecun_normal(in_axis=(0, 1, 2))
    return {
        "embedding": {
            "kernel": lecun(patch_rng, (patch, patch, 3, width)),
            "bias": jnp.zeros(width),
        },
        "pos_embedding": jax.random.normal(position_rng, (1, config.num_tokens, width))
        * width**-0.5,
        "Transformer": {
            "encoderblock": blocks,
            "encoder_norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        },
        "head": {
            "kernel": nn.initializers.lecun_normal()(head_rng, (width, output_width)),
            "bias": jnp.zeros(output_width),
        },
    }
