"""Negative-aware fine-tuning (NFT): failures teach too, as mirrored targets; no likelihood.

    v_plus = v_old + (v - v_old) = v,   v_minus = v_old - (v - v_old) = 2 v_old - v
    L = mean of R |v_plus - u|^2 + lambda (1 - R) |v_minus - u|^2,   u = noise - actions

R is 1 for a window of a success and 0 for one of a failure; v_old is the velocity of the parameters
that acted in this iteration's rollouts, and lambda is `negative_weight`.

Sources: DiffusionNFT (arXiv 2509.16117), whose beta is 1 here, as in the embodied NFT of RLinf
(github.com/RLinf/RLinf), which weighs failures 0.2. Left out: their adaptive weights, and the pull
towards a reference policy.

The mirrored term pulls the right way at v = v_old only. Where failures are the majority, several
epochs over them push v away from everything: with lambda = 1 the success of a toy policy fell from
15 % to 0 % in six of six seeds, and single seeds fell late from better starts. So failures weigh
little, windows are those of one iteration, and an iteration's updates end when v is too far from
v_old. A third guard is `rl.max_drop`.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, Pi0, prefix_params
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss, acting_params
from pi0_jax.training.supervised import NoiseAndTime, noise_and_time_sampler
from pi0_jax.types import Batch


@dataclass(frozen=True)
class Nft(Objective):
    """Objective `nft`; only the conditional branch is trained, so it has no guidance.

    Attributes:
        negative_weight: weight lambda of failures; 0.1 to 0.3 are tried, 1 collapses from a weak
            policy.
        max_drift: the updates of an iteration end when |v - v_old| / |v_old| is larger. It is
            looked at where updates are measured, every `rl.log_every`. In the toy it stays below
            0.2 where lambda is 0.2, and passes 0.3 where success collapses.
    """

    negative_weight: Annotated[float, "[0, 1000]"] = 0.2
    max_drift: Annotated[float, "[0, 1e6]"] = 0.3

    has_guidance: ClassVar[bool] = False
    requires: ClassVar[Mapping[str, object]] = {
        # The weight of a window is its R.
        "advantage.success_weight": True,
        # v_old is the policy that made the windows: no older ones, no demonstrations, no guidance.
        "buffer_iterations": 1,
        "demo_fraction": 0.0,
        "guidance": 1.0,
    }

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("rl.nft", self)

    def __str__(self) -> str:
        """For the log."""
        return f"nft, negative weight {self.negative_weight:g}, drift at most {self.max_drift:g}"

    @property
    def bounds(self) -> Mapping[str, float]:
        """The drift, above which the updates of an iteration end."""
        return {"drift": self.max_drift}

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds `L = mean of R |v - u|^2 + lambda (1 - R) |2 v_old - v - u|^2`.

        R is the weight of a window; means are over all windows b, rows r and the real action steps.
        The gradient at v = v_old is that of signed weights: R - lambda (1 - R) times that of
        |v - u|^2. Arguments as `Objective.loss`.
        """
        negative_weight = self.negative_weight

        def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
            """The loss of one batch; both velocities see the same noise and time."""
            actions, noise, time = drawn  # [b, r, H, d] twice, [b, r]
            x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
            ids = None if has_two_prompts(branch_mode) else jnp.full(time.shape, POSITIVE)  # [b, r]
            rest = jnp.asarray(batch.obs.state), x_t, time, ids
            old = acting_params(params)
            cache = old_cache = model.encode_prefix(params, batch.obs)
            if not _share_prefix(params, old):
                old_cache = model.encode_prefix(old, batch.obs)
            v = model.velocity(params, cache, *rest)  # [b, r, H, d]
            v_old = jax.lax.stop_gradient(model.velocity(old, old_cache, *rest))  # [b, r, H, d]
            mask, success = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
            # Errors [b, r, H]; the mask is [b, H]: steps after the end of an episode do not count.
            plus = flow.matching_error(v, actions, noise)
            minus = flow.matching_error(2 * v_old - v, actions, noise)
            positive = flow.masked_mean(plus, mask, success)
            negative = flow.masked_mean(minus, mask, 1 - success)
            far, size = (jnp.sqrt(jnp.mean(jnp.square(x))) for x in (v - v_old, v_old))
            metrics = {"loss_positive": positive, "loss_negative": negative, "drift": far / size}
            return positive + negative_weight * negative, metrics

        return SampledLoss(noise_and_time_sampler(time_samples), loss, reads_acting=True)


def _share_prefix(params: Params, old: Params) -> bool:
    """Whether both trees have the same prefix: nothing of it is trained, so nothing was copied."""
    pairs = zip(*(jax.tree.leaves(prefix_params(tree)) for tree in (params, old)), strict=True)
    return all(newest is acted for newest, acted in pairs)
