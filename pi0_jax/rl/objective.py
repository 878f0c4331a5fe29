"""The advantage-weighted CFG flow-matching loss.

    L = w(A) L_cond  (windows of positive advantage)  +  alpha L_uncond  (every window)

Both branches share prefix, noise and time: they are suffix rows over one prefix cache, so the
second branch costs one more pass of the small expert. Signed weights are left out on purpose: a
negative weight on a squared error is unbounded below.

Sources: CFGRL (arXiv 2505.23458) for the two terms; RIPT (arXiv 2505.17016) for the advantage.
"""

import jax.numpy as jnp

from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.training.step import DrawnLoss, Params, Valued
from pi0_jax.training.supervised import Drawn, drawing
from pi0_jax.types import Batch


def cfg_flow_matching_loss(model: Pi0, alpha: float, time_samples: int) -> DrawnLoss:
    """The loss above.

    Args:
        model: the network.
        alpha: weight of the unconditional branch; 0 leaves filtered behaviour cloning.
        time_samples: noise/time draws an observation and branch.
    """

    def loss(params: Params, batch: Batch, drawn: Drawn) -> Valued:
        """The weighted two-branch loss of one batch."""
        actions, noise, time = drawn
        x_t = flow.interpolate(actions, noise, time)
        condition = jnp.repeat(jnp.array([POSITIVE, UNCONDITIONAL]), time_samples)
        condition = jnp.broadcast_to(condition, (len(x_t), 2 * time_samples))
        cache = model.encode_prefix(params, batch.obs)
        x_rows, t_rows = (jnp.concatenate([x, x], axis=1) for x in (x_t, time))
        state = jnp.asarray(batch.obs.state)
        v = model.velocity(params, cache, state, x_rows, t_rows, condition)
        v_cond, v_uncond = jnp.split(v, 2, axis=1)

        mask, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
        cond_error = flow.matching_error(v_cond, actions, noise)
        # Here the advantage becomes a condition: the positive branch learns what it weighs.
        cond = flow.masked_mean(cond_error, mask, weight)
        uncond = flow.masked_mean(flow.matching_error(v_uncond, actions, noise), mask)
        gap = jnp.sqrt(jnp.mean(jnp.square(v_cond - v_uncond)))
        return cond + alpha * uncond, {
            "loss_cond": cond,
            "loss_uncond": uncond,
            "guidance_gap": gap,
        }

    return DrawnLoss(drawing(time_samples), loss)
