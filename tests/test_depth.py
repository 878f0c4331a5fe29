"""Shallow stacks run straight, deep ones in a loop: the results are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL, observation

from pi0_jax.model import depth as depth_module
from pi0_jax.model.depth import over_layers


def layer(carry, weight):
    return 2 * carry + weight, carry


def last(carry, weight):
    return carry, carry + 10 * weight


@pytest.fixture(params=["straight", "loop"])
def way(request, monkeypatch):
    monkeypatch.setattr(depth_module, "UNROLLED_DEPTH", 4 if request.param == "straight" else 0)


def test_layers_by_hand(way):
    """Carry 1 -> 2 + 1 = 3 -> 6 + 2 = 8 -> 16 + 3 = 19."""
    carry, outputs = over_layers(layer, jnp.array(1), jnp.array([1, 2, 3]), 3)
    assert int(carry) == 19
    assert outputs.tolist() == [1, 3, 8]


def test_the_last_layer_may_do_less(way):
    carry, outputs = over_layers(layer, jnp.array(1), jnp.array([1, 2, 3]), 3, last)
    assert int(carry) == 8
    assert outputs.tolist() == [1, 3, 8 + 30]


def test_the_network_is_the_same_either_way(params, monkeypatch):
    """Prefix, its gradients, and the last layer's weights that nothing reads."""

    def loss(params):
        cache = MODEL.encode_prefix(params, observation(2))
        return jnp.sum(cache.k**2) + jnp.sum(cache.v**2)

    straight = jax.jit(jax.value_and_grad(loss))(params)
    monkeypatch.setattr(depth_module, "UNROLLED_DEPTH", 0)
    loop = jax.jit(jax.value_and_grad(lambda params: loss(params)))(params)
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(loop), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    mlp = loop[1]["PaliGemma"]["llm"]["layers"]["mlp"]["linear"]
    assert np.abs(mlp[0]).max() > 0
    np.testing.assert_array_equal(mlp[1], 0)
