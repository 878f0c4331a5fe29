"""A last layer that differs is cut off or branched to; what is kept changes no result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.model import layer_scan as depth_module
from pi0_jax.model.layer_scan import ATTENTION, MLP, save_for_backward, scan_layers
from pi0_jax.testing import observation


def layer(carry, weight):
    return 2 * carry + weight, carry


def last(carry, weight):
    return carry, carry + 10 * weight


@pytest.fixture(params=["cut", "branch"])
def way(request, monkeypatch):
    monkeypatch.setattr(depth_module, "CUT_BYTES", 2**28 if request.param == "cut" else 0)


def test_layers_by_hand(way):
    """Carry 1 -> 2 + 1 = 3 -> 6 + 2 = 8 -> 16 + 3 = 19."""
    carry, outputs = scan_layers(layer, jnp.array(1), jnp.array([1, 2, 3]), 3)
    assert int(carry) == 19
    assert outputs.tolist() == [1, 3, 8]


def test_the_last_layer_may_do_less(way):
    carry, outputs = scan_layers(layer, jnp.array(1), jnp.array([1, 2, 3]), 3, last)
    assert int(carry) == 8
    assert outputs.tolist() == [1, 3, 8 + 30]


def test_the_network_is_the_same_either_way(params, monkeypatch):
    """Prefix, its gradients, and the last layer's weights that nothing reads."""
    vlm = params["PaliGemma"]["llm"]["layers"]

    def loss(layers):
        llm = params["PaliGemma"]["llm"] | {"layers": layers}
        given = params | {"PaliGemma": params["PaliGemma"] | {"llm": llm}}
        cache = MODEL.encode_prefix(given, observation(2))
        return jnp.sum(cache.k**2) + jnp.sum(cache.v**2)

    cut = jax.jit(jax.value_and_grad(loss))(vlm)
    monkeypatch.setattr(depth_module, "CUT_BYTES", 0)
    branch = jax.jit(jax.value_and_grad(lambda layers: loss(layers)))(vlm)
    for a, b in zip(jax.tree.leaves(cut), jax.tree.leaves(branch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    mlp = branch[1]["mlp"]["linear"]
    assert np.abs(mlp[0]).max() > 0
    np.testing.assert_array_equal(mlp[1], 0)


@pytest.mark.parametrize(("remat", "products"), [("none", 6), ("mlp", 7), ("full", 9)])
def test_which_products_are_computed_again(remat, products):
    """Three products a layer, y = ((x w) w) w with the second an MLP's.

    Backwards each has one for x and, since w is constant here, none for w: 3 + 3, and those again
    that were not kept and are read, the products behind each sine.
    """
    w = jnp.eye(2)

    def body(x, _):
        x = jnp.sin(save_for_backward(x @ w, ATTENTION))
        x = jnp.sin(save_for_backward(x @ w, MLP))
        return jnp.sin(save_for_backward(x @ w, ATTENTION)), None

    def loss(x):
        return jnp.sum(scan_layers(body, x, jnp.arange(5), 5, remat=remat)[0])

    program = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((3, 2))))
    assert program.count("dot_general") == products
