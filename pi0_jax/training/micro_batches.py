"""Gradient accumulation that gives the gradient of the whole batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.errors import InputError
from pi0_jax.training.step import Gradient, LossAndMetrics, SampledLoss, merge
from pi0_jax.types import Batch


def accumulated_gradient(loss: SampledLoss, micro_batches: int) -> Gradient:
    """The gradient of a batch, one micro-batch after another in one compiled loop.

    Noise and time are drawn for the whole batch before it is cut. With M_i real action steps in
    micro-batch i of n,

        L = sum_i s_i L_i,   s_i = M_i / sum_j M_j

    so the result differs from that of one pass by rounding only. Metrics are averaged with the
    same shares s_i.

    Args:
        loss: loss whose value is a mean over real action steps.
        micro_batches: number of parts n; divides the batch size.

    Raises:
        InputError: when the update is traced, if n does not divide the batch size.
    """

    def gradient(
        trained: dict[str, Any], frozen: dict[str, Any], batch: Batch, rng: jax.Array
    ) -> tuple[LossAndMetrics, Any]:
        """Value, metrics and gradient of the whole batch, part by part."""
        # Drawn before the cut, so that each window has the same noise whatever n is.
        parts = _cut((batch, loss.sample(rng, batch)), micro_batches)
        steps = jnp.sum(parts[0].action_mask, axis=(1, 2), dtype=jnp.float32)  # [n]
        # Parts have unequal numbers of real steps: a plain mean of means would be another loss.
        shares = steps / jnp.maximum(jnp.sum(steps), 1.0)  # [n]

        def gradient_of(part: tuple[Batch, Any]) -> tuple[LossAndMetrics, Any]:
            """Value, metrics and gradient of one part, actions float32[b/n, H, d]."""

            def loss_of(trained: dict[str, Any]) -> LossAndMetrics:
                """The loss of one part as a function of the trained leaves."""
                return loss.evaluate(merge(trained, frozen), *part)

            # By the trained leaves alone: no gradient of a frozen leaf is ever allocated.
            return jax.value_and_grad(loss_of, has_aux=True)(trained)

        return _weighted_sum(gradient_of, parts, shares)

    return gradient


def _weighted_sum(function: Callable[[Any], Any], parts: Any, shares: jax.Array) -> Any:
    """sum_i shares[i] function(parts[i]) in one compiled loop.

    Args:
        function: part -> tree of arrays.
        parts: tree of arrays with a leading axis n.
        shares: float32[n].
    """

    def add(total: Any, at: tuple[Any, jax.Array]) -> tuple[Any, None]:
        """Adds one part to the sums."""
        part, share = at  # [b/n, H, d] and so on, scalar
        return jax.tree.map(lambda t, x: t + share * x, total, function(part)), None

    # The sum starts from zeros of the result's own shapes, known without computing a part.
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # A scan, not a Python loop: the buffers of one part serve all n, and one part is compiled.
    return jax.lax.scan(add, zero, (parts, shares))[0]


def _cut(tree: Any, micro_batches: int) -> Any:
    """[b, ...] to [n, b / n, ...]: rows i, i + n, i + 2n, ... are micro-batch i.

    A device of a mesh holds neighbouring rows. With this stride it has its share of every
    micro-batch; blocks of neighbouring rows would lie on a few devices, and the others would wait.
    """

    def cut(leaf: Any) -> jax.Array:
        """Cuts one leaf."""
        if len(leaf) % micro_batches:
            raise InputError(
                f"batch size {len(leaf)} is not a multiple of hardware.micro_batches "
                f"{micro_batches}"
            )
        # For actions: [b, H, d] -> [b/n, n, H, d] -> [n, b/n, H, d].
        return jnp.swapaxes(jnp.reshape(leaf, (-1, micro_batches, *leaf.shape[1:])), 0, 1)

    return jax.tree.map(cut, tree)
