"""Behaviour cloning of the windows that count: only the conditional branch is trained.

    L = mean of w |v(x_t, t, POSITIVE) - u|^2,  u = noise - actions

With `rl.advantage.success_weight` and without dynamic sampling (every success counts 1, every
failure 0) this is filtered behaviour cloning; with advantages as weights it is `cfg` at alpha 0.

Sources: self-imitation (arXiv 1806.05635) and advantage-weighted regression (arXiv 1910.00177);
filtering by success alone is common practice, as in the percentile BC of arXiv 2106.01345.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, Pi0
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.training.supervised import NoiseAndTime, noise_and_time_sampler
from pi0_jax.types import Batch


@dataclass(frozen=True)
class FilteredBc(Objective):
    """Objective `filtered_bc`; it has no settings of its own, and no guidance."""

    has_guidance: ClassVar[bool] = False
    # Nothing trains the row that another scale would lead away from.
    requires: ClassVar[Mapping[str, object]] = {"guidance": 1.0}

    def __str__(self) -> str:
        """For the log."""
        return "filtered_bc"

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds `L = mean of w(A_i) |v(x_t, t, POSITIVE) - u|^2`.

        v is the velocity, u = noise - actions its target; the mean is over all windows b, rows r
        and the real action steps. Arguments as `Objective.loss`.
        """

        def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
            """The weighted loss of one batch."""
            actions, noise, time = drawn  # [b, r, H, d] twice, [b, r]
            x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
            ids = None if has_two_prompts(branch_mode) else jnp.full(time.shape, POSITIVE)  # [b, r]
            cache = model.encode_prefix(params, batch.obs)
            # One branch, r rows: half the cost of `cfg` in the action expert.
            v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x_t, time, ids)
            error = flow.matching_error(v, actions, noise)  # [b, r, H]
            # [b]: a window of weight 0 has no gradient, it only makes the mean smaller.
            weight = jnp.asarray(batch.weight)
            cond = flow.masked_mean(error, jnp.asarray(batch.action_mask), weight)
            return cond, {"loss_cond": cond}

        return SampledLoss(noise_and_time_sampler(time_samples), loss)
