"""Where parameters lie on a mesh; what a layer gathers is counted in test_sharding."""

import jax
import jax.numpy as jnp
import pytest
from tiny import MODEL

from pi0_jax.model.mesh import FSDP, gathered, is_cast, leaf_spec, own_rows


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("PaliGemma/img/head/bias", (2048,), ()),
        ("opt_state/0/mu/a/embedder/input_embedding", (257152, 2048), (None, FSDP)),
        ("a/mlp/linear", (18, 16384, 2048), (None, FSDP, None)),
        ("a/attn/q_einsum/w", (18, 8, 2048, 256), (None, None, FSDP, None)),
        ("a/square", (1024, 1024), (None, FSDP)),
        ("a/odd", (999, 333), ()),
    ],
)
def test_the_rule_by_path_and_size(path, shape, expected):
    assert leaf_spec(path, shape, fsdp=8) == expected
    assert leaf_spec(path, shape, fsdp=1) == ()


@pytest.mark.parametrize(
    ("path", "cast"),
    [
        ("attn/q_einsum/w", True),
        ("mlp/gating_einsum", True),
        ("MlpBlock_0/Dense_0/bias", True),
        ("pre_attention_norm/Dense_0/kernel", True),
        ("pre_attention_norm/scale", False),
        ("LayerNorm_0/bias", False),
    ],
)
def test_a_norm_keeps_its_dtype(path, cast):
    assert is_cast(path) is cast


def test_without_a_mesh_nothing_is_added(params):
    layer = jax.tree.map(lambda leaf: leaf[0], params["PaliGemma"]["llm"]["layers"])
    assert gathered(layer, jnp.bfloat16) is layer
    assert own_rows(layer) is layer
    tokens = jnp.zeros((1, 4, MODEL.config.action_dim))
    assert "sharding" not in str(jax.make_jaxpr(own_rows)(tokens))
