"""CFG whose unconditional branch leaves the network alone: only its embedding row learns from it.

    L = w(A) L_cond(theta, e_pos)  +  alpha L_uncond(sg(theta), e_uncond)

sg stops the gradient, and the row of e_uncond is clipped apart from all other parameters. So at
guidance 1 the policy is that of `filtered_bc` with the same weights, whatever alpha; what guidance
adds comes on top.

Source: our own. Classifier-free guidance is arXiv 2207.12598; its two branches in RL are those of
`cfg.py`, whose gradients meet in one network (docs/results.md: what that costs).

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from pi0_jax.data.branches import EMBEDDING, has_two_prompts
from pi0_jax.errors import InputError
from pi0_jax.model import flow
from pi0_jax.model.pi0 import COND_EMBED, POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.base import Objective, guidance_gap
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.training.supervised import NoiseAndTime, noise_and_time_sampler
from pi0_jax.types import Batch


@dataclass(frozen=True)
class CfgDetached(Objective):
    """Objective `cfg_detached`.

    Attributes:
        alpha: weight of the unconditional term; it scales the gradient of one embedding row.
    """

    alpha: Annotated[float, "[0, 1000]"] = 1.0

    has_guidance: ClassVar[bool] = True
    # Between two prompts there is no row to train alone.
    requires: ClassVar[Mapping[str, object]] = {"branch_mode": EMBEDDING}

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("rl.cfg_detached", self)

    def __str__(self) -> str:
        """For the log."""
        return f"cfg_detached, alpha {self.alpha:g}"

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds `L = w L_cond + alpha L_uncond`, L_uncond with the network held fixed.

        With v the velocity, u = noise - actions its target, sg the stop of the gradient, and means
        over windows b, rows r and the real action steps:

            L_cond   = mean of |v(x_t, t, POSITIVE; theta) - u|^2, window i weighted by w_i = w(A_i)
            L_uncond = mean of |v(x_t, t, UNCONDITIONAL; sg(theta)) - u|^2

        In L_uncond only one row of the condition embedding has a gradient: every other parameter
        gets the gradient and the update of `filtered_bc`. Arguments as `Objective.loss`.

        Raises:
            InputError: the branches differ by their prompt, so there is no row to train alone.
        """
        if has_two_prompts(branch_mode):
            raise InputError(
                f"rl.objective 'cfg_detached' trains one row of the condition embedding, but "
                f"rl.branch_mode is {branch_mode!r}; set it to 'embedding', or rl.objective to "
                "'cfg'"
            )

        def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
            """The loss of one batch; both branches see the same noise and time."""
            actions, noise, time = drawn  # [b, r, H, d] twice, [b, r]
            x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
            cache = model.encode_prefix(params, batch.obs)
            rest = jnp.asarray(batch.obs.state), x_t, time
            # Two passes of the expert, [b, r, H, d] each: only the first may train the network.
            v_cond = model.velocity(params, cache, *rest, jnp.full(time.shape, POSITIVE))
            # The same values without gradients, but for the embedding that tells branches apart.
            fixed = jax.lax.stop_gradient(params) | {COND_EMBED: params[COND_EMBED]}
            still = jax.lax.stop_gradient(cache)
            v_uncond = model.velocity(fixed, still, *rest, jnp.full(time.shape, UNCONDITIONAL))
            mask, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
            # Here the advantage becomes a condition: the positive branch learns what it weighs.
            # Errors [b, r, H]; the mask is [b, H]: steps after the end of an episode do not count.
            cond = flow.masked_mean(flow.matching_error(v_cond, actions, noise), mask, weight)
            uncond = flow.masked_mean(flow.matching_error(v_uncond, actions, noise), mask)
            metrics = {"loss_cond": cond, "loss_uncond": uncond}
            metrics |= guidance_gap(v_cond, v_uncond)
            return cond + self.alpha * uncond, metrics

        # Clipped with the rest, a long gradient of the row would shorten the step of the network.
        row = (COND_EMBED, UNCONDITIONAL)
        return SampledLoss(noise_and_time_sampler(time_samples), loss, apart=row)
