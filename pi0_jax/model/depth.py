"""Applying a stack of layers whose parameters share a leading axis l.

What the backward pass keeps of a layer is a choice (rematerialisation, arXiv 1604.06174):

    none   everything it reads
    mlp    all but the MLP's hidden values, which are most of it; they are computed again
    full   the layer's input alone; the whole layer is computed again
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Layer = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, one layer's slice of the stack) -> (carry, output)."""

# XLA's CPU loop makes the backward pass of a two-layer stack 2.5x slower than straight code
# (docs/log.md); deep stacks are scanned, so that one layer is compiled instead of 27.
UNROLLED_DEPTH = 4

REMATS = ("none", "mlp", "full")


def over_layers(
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
        remat: "full" keeps the carries alone for the backward pass; a body decides for itself
            what "mlp" means.

    Returns:
        The last carry, and the outputs stacked along a leading axis l.
    """
    final = last or layer
    if depth <= UNROLLED_DEPTH:
        outputs = []
        for index in range(depth):
            body = final if index == depth - 1 else layer
            body = jax.checkpoint(body) if remat == "full" else body
            carry, output = body(carry, jax.tree.map(lambda leaf, i=index: leaf[i], stack))
            outputs.append(output)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
    if last is None:
        return jax.lax.scan(_in_loop(layer, remat), carry, stack)

    def step(carry: Any, at: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        """One scanned layer; the last one by a branch."""
        sliced, is_last = at
        return jax.lax.cond(is_last, final, layer, carry, sliced)

    return jax.lax.scan(_in_loop(step, remat), carry, (stack, jnp.arange(depth) == depth - 1))


def _in_loop(body: Layer, remat: str) -> Layer:
    # A loop's two passes cannot be merged by the compiler: no barrier is needed against it.
    return jax.checkpoint(body, prevent_cse=False) if remat == "full" else body
