"""Applying a stack of layers whose parameters share a leading axis l.

What the backward pass keeps of a layer is a choice (rematerialisation, arXiv 1604.06174). Layers
mark the results of their matrix products (`save_for_backward`). Everything between two products is
computed again: in a loop every value that is kept is copied into an array [l, ...], which costs
more than computing a GELU again. `remat` says which products are kept:

    none   all products; no product is computed twice
    mlp    all but the MLP's hidden values, which need most of the memory
    full   only the layer's input
"""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from pi0_jax.model.mesh import own_rows

Layer = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, one layer's slice of the stack) -> (carry, output)."""

CUT_BYTES = 2**28
"""Largest parameter stack that is split for a gradient.

If the last layer is special, the scan needs a `lax.cond` per layer. On a CPU that makes gradients
about 20 % slower, so stacks up to this size are split into "all but the last" and "the last" layer,
which costs one copy of the stack."""


class PerLayer(tuple[Any, ...]):
    """One leaf of a stack as l arrays [...] in place of one array [l, ...].

    A loop over a stack copies a layer's slice before it uses it, in every turn of every loop around
    it. Over such leaves `scan_layers` has no loop and copies nothing; its program is longer by the
    depth.
    """


jax.tree_util.register_pytree_node(
    PerLayer, lambda leaf: (tuple(leaf), None), lambda _, arrays: PerLayer(arrays)
)

ATTENTION, MLP = "attention", "mlp"
KEPT = {"none": (ATTENTION, MLP), "mlp": (ATTENTION,), "full": ()}
REMATS = tuple(KEPT)


def save_for_backward(product: jax.Array, part: str) -> jax.Array:
    """Marks a matrix product that the backward pass keeps if `remat` says so; changes no value.

    Args:
        product: the result.
        part: ATTENTION or MLP, the part of the layer that it belongs to.
    """
    return checkpoint_name(product, part)


def scan_layers(
    layer: Layer,
    carry: Any,
    stack: Any,
    depth: int,
    last: Layer | None = None,
    remat: str = "none",
) -> tuple[Any, Any]:
    """Runs `layer` over a stack, as `jax.lax.scan` does.

    Args:
        layer: body.
        carry: what one layer hands to the next, such as tokens.
        stack: tree of arrays [l, ...]; the body gets one slice [...] after the other. With a leaf
            that is `PerLayer` there is no loop, and `remat` has no meaning: it is for acting.
        depth: number of layers l.
        last: another body for the last layer, which has less to compute; its outputs have the
            shapes of `layer`'s. With it, no body may close over a traced array, which
            `jax.custom_vjp` forbids: what a body reads comes with the carry or the stack.
        remat: key of `KEPT`.

    Returns:
        The last carry, and the outputs stacked along a leading axis l, or `PerLayer` as the stack.
    """
    if any(map(_is_per_layer, jax.tree.leaves(stack, is_leaf=_is_per_layer))):
        return _unrolled([layer] * (depth - 1) + [last or layer], carry, stack)
    if last is None:
        return _loop(layer, carry, stack, remat)
    branching = partial(_branching, layer, last, remat, depth)
    # Too large to be copied for a gradient.
    if sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(stack)) > CUT_BYTES:
        return branching(carry, stack)
    # A computation without a gradient keeps the branch, which copies nothing.
    return _differentiated_as(partial(_cut, layer, last, remat), branching)(carry, stack)


def _is_per_layer(leaf: Any) -> bool:
    return isinstance(leaf, PerLayer)


def _unrolled(layers: list[Layer], carry: Any, stack: Any) -> tuple[Any, Any]:
    """The layers one after the other; their outputs are `PerLayer`."""
    outputs = []
    for index, layer in enumerate(layers):
        sliced = jax.tree.map(itemgetter(index), stack, is_leaf=_is_per_layer)
        carry, output = layer(carry, sliced)
        outputs.append(output)
    return carry, jax.tree.map(lambda *parts: PerLayer(parts), *outputs)


def _branching(
    layer: Layer, last: Layer, remat: str, depth: int, carry: Any, stack: Any
) -> tuple[Any, Any]:
    """One loop over all layers, which copies nothing."""

    def step(carry: Any, at: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        """One scanned layer; the last one by a branch."""
        sliced, is_last = at
        return jax.lax.cond(is_last, last, layer, carry, sliced)

    return _loop(step, carry, (stack, jnp.arange(depth) == depth - 1), remat)


def _cut(layer: Layer, last: Layer, remat: str, carry: Any, stack: Any) -> tuple[Any, Any]:
    """A loop over all layers but the last, then the last one by itself."""
    head, tail = (jax.tree.map(lambda leaf, at=at: leaf[at], stack) for at in (slice(-1), -1))
    carry, outputs = _loop(layer, carry, head, remat)
    carry, output = last(carry, tail)
    return carry, jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), outputs, output)


def _differentiated_as(other: Layer, function: Layer) -> Layer:
    """A function that computes `function`, and `other` wherever it is differentiated.

    Args:
        other: another program for the same mathematical function.
        function: the program without a gradient.
    """
    # Why the gradient of another function is legal here: both run the same layers on the same
    # values, so both have the same derivative. The forward pass of a gradient runs `other` too
    # (`jax.vjp` returns its value), so the residuals that `pull` reads are those of the value
    # that was returned, and nothing of `function` is mixed in. `pull` is a pytree of these
    # residuals, which is what a custom rule may hand from its forward to its backward pass.
    chosen = jax.custom_vjp(function)
    chosen.defvjp(lambda *args: jax.vjp(other, *args), lambda pull, cotangent: pull(cotangent))
    return chosen


def _loop(body: Layer, carry: Any, stack: Any, remat: str) -> tuple[Any, Any]:
    policy = jax.checkpoint_policies.save_only_these_names(*KEPT[remat])
    # The barrier (`prevent_cse`) keeps the compiler from merging the second computation with the
    # first, which would keep the values after all. Between two loops it cannot merge anything.
    body = jax.checkpoint(partial(_on_own_rows, body), policy=policy, prevent_cse=False)
    return jax.lax.scan(body, own_rows(carry), stack)


def _on_own_rows(body: Layer, carry: Any, sliced: Any) -> tuple[Any, Any]:
    """One layer, before and after which every device of a mesh has its rows of the batch."""
    # Also before: the backward pass runs the same constraint on the gradient that leaves the layer.
    carry, output = body(own_rows(carry), sliced)
    return own_rows(carry), output
