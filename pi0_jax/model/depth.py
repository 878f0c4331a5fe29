"""Applying a stack of layers whose parameters share a leading axis l."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Layer = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, one layer's slice of the stack) -> (carry, output)."""

# XLA's CPU loop makes the backward pass of a two-layer stack 2.5x slower than straight code
# (docs/log.md); deep stacks are scanned, so that one layer is compiled instead of 27.
UNROLLED_DEPTH = 4


def over_layers(
    layer: Layer, carry: Any, stack: Any, depth: int, last: Layer | None = None
) -> tuple[Any, Any]:
    """Runs `layer` over a stack, as `jax.lax.scan` does.

    Args:
        layer: body.
        carry: what flows through, such as tokens.
        stack: tree of arrays [l, ...]; the body gets slice after slice.
        depth: l.
        last: body of the last layer where it has less to compute, with outputs of equal shapes.

    Returns:
        The last carry, and the outputs stacked along a leading axis l.
    """
    final = last or layer
    if depth <= UNROLLED_DEPTH:
        outputs = []
        for index in range(depth):
            body = final if index == depth - 1 else layer
            carry, output = body(carry, jax.tree.map(lambda leaf, i=index: leaf[i], stack))
            outputs.append(output)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
    if last is None:
        return jax.lax.scan(layer, carry, stack)

    def step(carry: Any, at: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        sliced, is_last = at
        return jax.lax.cond(is_last, final, layer, carry, sliced)

    return jax.lax.scan(step, carry, (stack, jnp.arange(depth) == depth - 1))
