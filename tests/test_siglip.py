"""The image tower: its patches are a convolution's, its images do not meet."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIG

from pi0_jax.model import siglip

VISION, WIDTH = CONFIG.vision, CONFIG.vlm.width


@pytest.fixture(scope="module")
def tower(params):
    return params["PaliGemma"]["img"]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)


def encode(tower, images, dtype="float32"):
    return siglip.encode(tower, VISION, jnp.asarray(images), jnp.dtype(dtype))


def test_patches_are_a_strided_convolution(tower, images):
    """With blocks that add nothing, only patches, positions, the last norm and the head are left.

    The token of patch row y and column x is number 2 y + x.
    """
    blocks = jax.tree.map(jnp.zeros_like, tower["Transformer"]["encoderblock"])
    through = tower | {"Transformer": tower["Transformer"] | {"encoderblock": blocks}}
    convolved = jax.lax.conv_general_dilated(
        jnp.asarray(images),
        tower["embedding"]["kernel"],
        window_strides=(8, 8),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    chex.assert_shape(convolved, (3, 2, 2, 8))
    x = convolved.reshape(3, 4, 8) + tower["embedding"]["bias"] + tower["pos_embedding"]
    norm, head = tower["Transformer"]["encoder_norm"], tower["head"]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    expected = (x * norm["scale"] + norm["bias"]) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(encode(through, images), expected, atol=1e-4)


def test_an_image_does_not_see_the_others(tower, images):
    together = encode(tower, images)
    np.testing.assert_allclose(together[1:2], encode(tower, images[1:2]), atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-2)


def test_every_token_sees_the_whole_image(tower, images):
    changed = images.copy()
    changed[0, -1, -1] += 1.0  # last pixel, so last patch
    difference = np.abs(encode(tower, changed) - encode(tower, images))
    assert (difference[0].max(-1) > 1e-4).all()
    assert difference[1:].max() < 1e-5


def test_compute_dtype(tower, images):
    half = encode(tower, images, "bfloat16")
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), encode(tower, images), atol=0.1)


def test_init_shapes():
    shapes = jax.eval_shape(lambda: siglip.init(VISION, WIDTH, jax.random.key(0)))
    assert shapes["embedding"]["kernel"].shape == (8, 8, 3, 8)
    assert shapes["pos_embedding"].shape == (1, 4, 8)
    assert shapes["head"]["kernel"].shape == (8, WIDTH)
    block = shapes["Transformer"]["encoderblock"]
    assert block["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape == (1, 8, 2, 4)
    assert block["MlpBlock_0"]["Dense_0"]["kernel"].shape == (1, 8, 16)
