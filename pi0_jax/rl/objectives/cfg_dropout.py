"""CFG in a single pass: each window trains one of the two branches, drawn for it.

    L = sum over conditional windows of w(A) |v - u|^2  +  sum over unconditional ones of |v - u|^2

divided by the number of all real action steps. Source: RECAP (arXiv 2511.14759) and RLinf.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.base import Objective, prompts_where
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.training.supervised import NoiseAndTime, sample_noise_and_time
from pi0_jax.types import Batch


@dataclass(frozen=True)
class CfgDropout(Objective):
    """Objective `cfg_dropout`: half the expert's cost of `cfg`; no guidance gap is measured.

    Attributes:
        probability: probability that a window trains the unconditional branch; it replaces alpha.
    """

    probability: Annotated[float, "(0, 1)"] = 0.1

    has_guidance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the range.

        Raises:
            InputError: not in (0, 1).
        """
        # Without an unconditional branch the objective is `filtered_bc`.
        check_ranges("rl.cfg_dropout", self)

    def __str__(self) -> str:
        """For the log."""
        return f"cfg_dropout {self.probability:g}"

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds `L = L_cond + L_uncond`, each window in one of the two terms.

        Window i is drawn to be unconditional, d_i = 1, with `probability`, else d_i = 0. With v the
        velocity, u = noise - actions its target, and means over all windows b, rows r and the
        real action steps:

            L_cond   = mean of (1 - d_i) w(A_i) |v(x_t, t, POSITIVE) - u|^2
            L_uncond = mean of d_i |v(x_t, t, UNCONDITIONAL) - u|^2

        Arguments as `Objective.loss`.
        """

        def drawn(rng: jax.Array, batch: Batch) -> tuple[NoiseAndTime, jax.Array]:
            """Noise and time, and bool[b]: which windows train the unconditional branch."""
            # Once per window, not per row [b, r]: by prompt, a window has one prefix.
            branch_rng, rng = jax.random.split(rng)
            dropped = jax.random.bernoulli(branch_rng, self.probability, (len(batch.weight),))
            return sample_noise_and_time(rng, jnp.asarray(batch.actions), time_samples), dropped

        def loss(
            params: Params, batch: Batch, drawn: tuple[NoiseAndTime, jax.Array]
        ) -> LossAndMetrics:
            """The weighted loss of one batch, each window in its branch."""
            (actions, noise, time), dropped = drawn  # [b, r, H, d] twice, [b, r], [b]
            x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
            obs, ids = batch.obs, None
            if has_two_prompts(branch_mode):
                obs = prompts_where(dropped, batch)
            else:
                ids = jnp.where(dropped, UNCONDITIONAL, POSITIVE)[:, None]
                ids = jnp.broadcast_to(ids, time.shape)  # [b, r]
            cache = model.encode_prefix(params, obs)
            v = model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, ids)
            # v and its target [b, r, H, d] -> error [b, r, H]; mask [b, H].
            error, mask = flow.matching_error(v, actions, noise), jnp.asarray(batch.action_mask)
            # Each window counts in one of the two means; the other sees weight 0.
            cond = flow.masked_mean(error, mask, jnp.where(dropped, 0.0, batch.weight))
            uncond = flow.masked_mean(error, mask, dropped.astype(jnp.float32))
            return cond + uncond, {"loss_cond": cond, "loss_uncond": uncond}

        return SampledLoss(drawn, loss)
