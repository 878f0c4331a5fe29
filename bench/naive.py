"""What the shared prefix is compared with: one whole pass for each branch of guidance."""

import jax
import jax.numpy as jnp

from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.training.step import DrawnLoss, Params, Valued
from pi0_jax.training.supervised import Drawn, drawing
from pi0_jax.types import Batch


def two_pass_loss(model: Pi0, alpha: float) -> DrawnLoss:
    """`cfg_flow_matching_loss` with a prefix pass for each branch, one noise/time draw.

    The branches are two passes of the network over two copies of the batch; a barrier keeps the
    compiler from seeing that the prefixes are equal.
    """

    def branch(params: Params, batch: Batch, drawn: Drawn, condition: int) -> jax.Array:
        actions, noise, time = drawn
        obs = jax.lax.optimization_barrier(batch.obs)
        cache = model.encode_prefix(params, obs)
        x_t = flow.interpolate(actions, noise, time)
        ids = jnp.full(time.shape, condition)
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, ids)
        return flow.matching_error(v, actions, noise)

    def loss(params: Params, batch: Batch, drawn: Drawn) -> Valued:
        mask, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
        cond = flow.masked_mean(branch(params, batch, drawn, POSITIVE), mask, weight)
        uncond = flow.masked_mean(branch(params, batch, drawn, UNCONDITIONAL), mask)
        return cond + alpha * uncond, {}

    return DrawnLoss(drawing(1), loss)
