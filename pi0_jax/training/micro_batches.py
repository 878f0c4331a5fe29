"""Gradient accumulation that gives the gradient of the whole batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.errors import InputError
from pi0_jax.training.step import Gradient, LossAndMetrics, SampledLoss, merge
from pi0_jax.types import Batch


def accumulated_gradient(loss: SampledLoss, micro_batches: int) -> Gradient:
    """The gradient of a batch, a micro-batch at a time in one compiled loop.

    Noise and time are drawn for the whole batch before it is cut. A masked mean over the batch is
    the sum of the micro-batches' means, each times its share of the batch's real action steps: so
    numerators and the denominator are the large batch's, and what comes out differs by rounding
    only. Metrics are averaged with the same shares.

    Args:
        loss: whose value is a mean over real action steps.
        micro_batches: how many; divides the batch size.

    Raises:
        InputError: when the update is traced, if the batch size cannot be cut.
    """

    def gradient(
        trained: dict[str, Any], frozen: dict[str, Any], batch: Batch, rng: jax.Array
    ) -> tuple[LossAndMetrics, Any]:
        """Value, metrics and gradient of the whole batch, part by part."""
        parts = _cut((batch, loss.sample(rng, batch)), micro_batches)
        steps = jnp.sum(parts[0].action_mask, axis=(1, 2), dtype=jnp.float32)  # [n]
        shares = steps / jnp.maximum(jnp.sum(steps), 1.0)

        def gradient_of(part: tuple[Batch, Any]) -> tuple[LossAndMetrics, Any]:
            """Of one part."""

            def loss_of(trained: dict[str, Any]) -> LossAndMetrics:
                """The loss of one part as a function of the trained leaves."""
                return loss.evaluate(merge(trained, frozen), *part)

            return jax.value_and_grad(loss_of, has_aux=True)(trained)

        return _weighted_sum(gradient_of, parts, shares)

    return gradient


def _weighted_sum(function: Callable[[Any], Any], parts: Any, shares: jax.Array) -> Any:
    """sum_i shares[i] function(parts[i]) in one compiled loop; parts have a leading axis n."""

    def add(total: Any, at: tuple[Any, jax.Array]) -> tuple[Any, None]:
        """Adds one part to the sums."""
        part, share = at
        return jax.tree.map(lambda t, x: t + share * x, total, function(part)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zero, (parts, shares))[0]


def _cut(tree: Any, micro_batches: int) -> Any:
    """[b, ...] to [n, b / n, ...]: rows i, i + n, i + 2n, ... are micro-batch i.

    So every device of a mesh, which holds neighbouring rows, has its share of each micro-batch.
    """

    def cut(leaf: Any) -> jax.Array:
        """[b, ...] to [n, b / n, ...] of one leaf."""
        if len(leaf) % micro_batches:
            raise InputError(
                f"batch size {len(leaf)} is not a multiple of hardware.micro_batches "
                f"{micro_batches}"
            )
        return jnp.swapaxes(jnp.reshape(leaf, (-1, micro_batches, *leaf.shape[1:])), 0, 1)

    return jax.tree.map(cut, tree)
