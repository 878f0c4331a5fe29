"""Applying a stack of layers whose parameters share a leading axis l.

What the backward pass keeps of a layer is a choice (rematerialisation, arXiv 1604.06174). Layers
name the results of their matrix products, and everything between two of them is computed again: in
a loop every value that is kept is copied into an array [l, ...], which costs more than a GELU.

    none   all products; no product is computed twice
    mlp    all but the MLP's hidden values, which are most of it
    full   the layer's input alone
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Layer = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, one layer's slice of the stack) -> (carry, output)."""

CUT_BYTES = 2**28
"""For a last layer that differs, every turn of the loop takes a branch. On a CPU that makes a
gradient a fifth slower: there, a stack of parameters up to this size is cut in front of its last
layer, which copies it."""

ATTENTION, MLP = "attention", "mlp"
KEPT = {"none": (ATTENTION, MLP), "mlp": (ATTENTION,), "full": ()}
REMATS = tuple(KEPT)


def keep(product: jax.Array, part: str) -> jax.Array:
    """Names the result of a matrix product by the part of the layer that it belongs to."""
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
        carry: what flows through, such as tokens.
        stack: tree of arrays [l, ...]; the body gets slice after slice.
        depth: l.
        last: body of the last layer where it has less to compute, with outputs of equal shapes.
            With it, no body may close over a traced array: the carry brings what it reads.
        remat: key of `KEPT`.

    Returns:
        The last carry, and the outputs stacked along a leading axis l.
    """
    if last is None:
        return _loop(layer, carry, stack, remat)
    branching = partial(_branching, layer, last, remat, depth)
    if sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(stack)) > CUT_BYTES:
        return branching(carry, stack)
    return _differentiated_as(partial(_cut, layer, last, remat), branching)(carry, stack)


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
    """A loop over the layers before the last, then the last."""
    head, tail = (jax.tree.map(lambda leaf, at=at: leaf[at], stack) for at in (slice(-1), -1))
    carry, outputs = _loop(layer, carry, head, remat)
    carry, output = last(carry, tail)
    return carry, jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), outputs, output)


def _differentiated_as(other: Layer, function: Layer) -> Layer:
    """The function, with the gradient of another way to compute the same."""
    chosen = jax.custom_vjp(function)
    chosen.defvjp(lambda *args: jax.vjp(other, *args), lambda pull, cotangent: pull(cotangent))
    return chosen


def _loop(body: Layer, carry: Any, stack: Any, remat: str) -> tuple[Any, Any]:
    policy = jax.checkpoint_policies.save_only_these_names(*KEPT[remat])
    # A loop's two passes cannot be merged by the compiler: no barrier is needed against it.
    body = jax.checkpoint(body, policy=policy, prevent_cse=False)
    return jax.lax.scan(body, carry, stack)
