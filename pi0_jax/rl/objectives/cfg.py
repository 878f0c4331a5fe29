"""The advantage-weighted CFG flow-matching loss.

    L = w(A) L_cond  (windows of positive advantage)  +  alpha L_uncond  (every window)

Both branches share prefix, noise and time: they are suffix rows over one prefix cache, so the
second branch costs one more pass of the small expert. Where the branches differ by their prompt
(`data/branches.py`) each has a prefix of its own.

Sources: CFGRL (arXiv 2505.23458) for the two terms; RIPT (arXiv 2505.17016) for the advantage.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax.numpy as jnp

from pi0_jax.model import flow
from pi0_jax.model.pi0 import Pi0
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.base import Objective, both_velocities, guidance_gap
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.training.supervised import NoiseAndTime, noise_and_time_sampler
from pi0_jax.types import Batch


@dataclass(frozen=True)
class Cfg(Objective):
    """Objective `cfg`.

    Attributes:
        alpha: weight of the unconditional branch.
        shared_noise: both branches of a window see the same noise and time.
    """

    alpha: Annotated[float, "[0, 1000]"] = 0.1
    shared_noise: bool = True

    has_guidance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("rl.cfg", self)

    def __str__(self) -> str:
        """For the log."""
        return f"cfg, alpha {self.alpha:g}"

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds the CFG flow-matching loss `L = w L_cond + alpha L_uncond`.

        With v the velocity, u = noise - actions its target, and means over windows b, rows r and
        the real action steps:

            L_cond   = mean of |v(x_t, t, POSITIVE) - u|^2, window i weighted by w_i = w(A_i)
            L_uncond = mean of |v(x_t, t, UNCONDITIONAL) - u|^2

        Windows with weight 0 contribute to the unconditional term only. Arguments as
        `Objective.loss`.
        """

        def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
            """The weighted two-branch loss of one batch."""
            actions, noise, time = drawn  # [b, r, H, d] twice, [b, r]
            x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
            if self.shared_noise:
                x_t, time = (jnp.concatenate([x, x], axis=1) for x in (x_t, time))  # [b, 2r, ...]
            # [b, r, H, d] each.
            v_cond, v_uncond = both_velocities(model, params, batch, x_t, time, branch_mode)
            mask, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
            # The conditional branch saw the first rows; all of them, where noise is shared.
            first, last = jnp.s_[:, :time_samples], jnp.s_[:, -time_samples:]
            # Here the advantage becomes a condition: the positive branch learns what it weighs.
            error = flow.matching_error(v_cond, actions[first], noise[first])  # [b, r, H]
            cond = flow.masked_mean(error, mask, weight)
            error = flow.matching_error(v_uncond, actions[last], noise[last])  # [b, r, H]
            uncond = flow.masked_mean(error, mask)
            metrics = {"loss_cond": cond, "loss_uncond": uncond}
            if self.shared_noise:  # of other noise, velocities say nothing of each other
                metrics |= guidance_gap(v_cond, v_uncond)
            return cond + self.alpha * uncond, metrics

        return SampledLoss(
            noise_and_time_sampler(time_samples if self.shared_noise else 2 * time_samples), loss
        )
