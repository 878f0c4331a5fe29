"""Policy gradient on a stochastic flow sampler: PPO's clipped ratio over the steps of Flow-SDE.

    rho = p(x[k+1] | x[k]; theta) / p_old(x[k+1] | x[k])
    L = mean of max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)), at most dual_clip |A|

A plain flow has no cheap likelihood; one whose every step adds normal noise (`model/flow_sde.py`)
has one of each step. A is the signed leave-one-out advantage of RIPT, so the policy is pushed away
from what failed. Only steps that were executed and dimensions that the robot has count in rho.
p_old is the density under the parameters that acted, as the rollout recorded it.

Sources: pi_RL (arXiv 2510.25889) and its code in RLinf for Flow-SDE with one ratio per chunk; PPO
(arXiv 1707.06347); the dual clip of arXiv 1912.09729; RIPT (arXiv 2505.17016), which applies PPO to
a Laplace distribution around the output of a regression policy. That head is left out: a flow
policy has no single output to put it around, and here the noise of the flow gives the likelihood.

It is expected to be behind `filtered_bc` at small budgets; docs/design.md has the numbers.

Axis letters: b batch, r suffix row, K flow step, H action horizon, d padded action dimension,
e robot's action dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.windows import EXECUTED
from pi0_jax.errors import InputError, check_choices
from pi0_jax.model import flow, flow_sde
from pi0_jax.model.pi0 import POSITIVE, Pi0
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.training.step import OWN, LossAndMetrics, Metrics, Params, SampledLoss
from pi0_jax.types import Batch

CHUNK, STEP = "chunk", "step"
SUM, MEAN = "sum", "mean"
# exp(20) is finite in float32, and far outside of every clip: no NaN in a gradient of 0 * infinity.
_LARGEST_LOG_RATIO = 20.0


@dataclass(frozen=True)
class FlowPg(Objective):
    """Objective `flow_pg`.

    `rl.time_samples` is the number of flow steps k that an update draws for each window, without
    repetition where there are enough; each is a sample of its own with the same A.

    Attributes:
        noise_level: level of the noise in rollouts. pi_RL's is 0.5 in every LIBERO config; in toys
            of ten flow steps 1 learnt faster.
        learn_noise: every action dimension has a level of its own, which starts at `noise_level`
            and is trained with the policy, between `noise_low` and `noise_high` (RIPT's
            `fix_scale_head` is its opposite). Give it a rate: `rl.optimizer.rules` with
            ("loss/noise", 30.0).
        noise_low: lower bound of a learned level (RIPT's `log_scale_clip`, not as a logarithm).
        noise_high: its upper bound.
        clip_low: the ratio has no gradient below 1 - clip_low for A < 0 (RIPT's `ppo_clip_range`).
        clip_high: nor above 1 + clip_high for A > 0 (RIPT's `ppo_clip_high`).
        dual_clip: for A < 0 the loss is at most dual_clip |A|, however large the ratio.
        log_prob: "sum" or "mean" of the log densities over the robot's action dimensions.
        ratio: "chunk", one ratio per chunk, of the sum over its executed steps; "step", one ratio
            per control step.
    """

    # Without noise every step is certain, and its density infinite.
    noise_level: Annotated[float, "[0.01, 100]"] = 1.0
    learn_noise: bool = False
    noise_low: Annotated[float, "[0.01, 100]"] = 0.5
    noise_high: Annotated[float, "[0.01, 100]"] = 1.5
    clip_low: Annotated[float, "[0, 1)"] = 0.2
    clip_high: Annotated[float, "[0, 1e6]"] = 0.2
    dual_clip: Annotated[float, "[1, 1e6]"] = 3.0
    log_prob: str = SUM
    ratio: str = CHUNK

    has_guidance: ClassVar[bool] = False
    requires: ClassVar[Mapping[str, object]] = {
        "advantage.negatives": "signed",
        "advantage.success_weight": False,
        # The ratio to a policy of long ago is clipped everywhere.
        "buffer_iterations": 1,
        # Two mixed branches have no likelihood under one of them; demonstrations have no chain.
        "demo_fraction": 0.0,
        "guidance": 1.0,
        # A window is a call of the policy, because only calls have chains.
        "windows.stride": EXECUTED,
    }

    def __post_init__(self) -> None:
        """Checks names and ranges.

        Raises:
            InputError: named field.
        """
        check_choices("rl.flow_pg", self, {"log_prob": (SUM, MEAN), "ratio": (CHUNK, STEP)})
        check_ranges("rl.flow_pg", self)
        bounds = self.noise_low, self.noise_high
        if not self.learn_noise and bounds != (FlowPg.noise_low, FlowPg.noise_high):
            raise InputError(
                f"rl.flow_pg.noise_low and noise_high are {bounds}, but the noise is not learned: "
                "set rl.flow_pg.learn_noise, or leave them as they are"
            )
        if self.learn_noise and not self.noise_low < self.noise_level < self.noise_high:
            raise InputError(
                f"rl.flow_pg.noise_level must lie between noise_low {self.noise_low:g} and "
                f"noise_high {self.noise_high:g} to be learned, got {self.noise_level:g}"
            )

    def __str__(self) -> str:
        """For the log."""
        learned = f", learned in [{self.noise_low:g}, {self.noise_high:g}]"
        noise = f"noise level {self.noise_level:g}{learned if self.learn_noise else ''}"
        return (
            f"flow_pg, {noise}, one ratio per {self.ratio} "
            f"({self.log_prob} over dimensions), clip {self.clip_low:g} {self.clip_high:g}"
        )

    @property
    def rollout_noise(self) -> float:
        """The noise that gives every step of the flow a likelihood."""
        return self.noise_level

    def noise_in(self, params: Params) -> float | np.ndarray:
        """The learned level of each dimension, or the fixed one."""
        return np.asarray(self._level(params)) if self.learn_noise else self.noise_level

    def _level(self, params: Params) -> flow_sde.Level:
        """`noise_low` to `noise_high`, evenly in the logarithm, as a sigmoid: float32[d]."""
        if not self.learn_noise:
            return self.noise_level
        share = jax.nn.sigmoid(params[OWN]["noise"])
        return self.noise_low * (self.noise_high / self.noise_low) ** share

    def _first_noise(self, dimensions: int) -> np.ndarray:
        """Inverse of `_level` at `noise_level`: float32[d]."""
        low, level, high = np.log([self.noise_low, self.noise_level, self.noise_high])
        return np.full(dimensions, np.log((level - low) / (high - level)), np.float32)

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """Builds the clipped policy-gradient loss of the formula at the head of this file.

        The mean is over windows b, drawn flow steps r and executed control steps: a chunk counts
        with its executed steps. Arguments as `Objective.loss`; the windows have chains, and their
        weight is A, of either sign.

        The metrics: "ratio_mean" and "ratio_max"; "clip_fraction", the share of samples without a
        gradient; "approx_kl", the mean of rho - 1 - log rho (an estimate of KL(p_old, p)); where it
        is learned "noise_level", the mean over the robot's dimensions. With micro-batches
        "ratio_max" is a mean of the micro-batches' maxima.
        """

        def loss(params: Params, batch: Batch, steps: jax.Array) -> LossAndMetrics:
            """The loss of one batch at flow steps int32[b, r]."""
            chain, old = _chains(batch)
            x, after, old = (_at(steps + i, one) for i, one in ((0, chain), (1, chain), (0, old)))
            flow_steps = chain.shape[1] - 1
            ids = None if has_two_prompts(branch_mode) else jnp.full(steps.shape, POSITIVE)
            cache = model.encode_prefix(params, batch.obs)
            time = flow_sde.step_time(steps, flow_steps)
            # All drawn steps of a window are suffix rows over one prefix: [b, r, H, d].
            v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x, time, ids)
            mean, std = flow_sde.transition(x, v, steps, flow_steps, self._level(params))
            new = flow_sde.log_density(after, mean, std)[..., : old.shape[-1]]  # [b, r, H, e]
            mask = jnp.asarray(batch.action_mask)
            log_ratio = self._log_ratio(new - old, mask)  # [b, r, H]
            loss, metrics = self._clipped(log_ratio, jnp.asarray(batch.weight), mask)
            return loss, metrics | self._noise_metric(params, old.shape[-1])

        own = {"noise": self._first_noise(model.config.action_dim)} if self.learn_noise else None
        return SampledLoss(lambda rng, batch: _draw_steps(rng, batch, time_samples), loss, own=own)

    def _noise_metric(self, params: Params, dimensions: int) -> Metrics:
        if not self.learn_noise:
            return {}
        return {"noise_level": jnp.mean(jnp.asarray(self._level(params))[:dimensions])}

    def _log_ratio(self, difference: jax.Array, mask: jax.Array) -> jax.Array:
        """Log of rho, [b, r, H], of new minus old log densities [b, r, H, e]; mask bool[b, H]."""
        reduce = jnp.sum if self.log_prob == SUM else jnp.mean
        each = jnp.where(mask[:, None], reduce(difference, axis=-1), 0.0)  # [b, r, H]
        if self.ratio == CHUNK:
            # One number per chunk, repeated for its steps.
            each = jnp.broadcast_to(jnp.sum(each, axis=-1, keepdims=True), each.shape)
        return jnp.clip(each, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)

    def _clipped(
        self, log_ratio: jax.Array, advantage: jax.Array, mask: jax.Array
    ) -> LossAndMetrics:
        """Loss and metrics of log rho float32[b, r, H], A float32[b] and mask bool[b, H]."""
        a, ratio = advantage[:, None, None], jnp.exp(log_ratio)
        free = -a * ratio
        held = -a * jnp.clip(ratio, 1 - self.clip_low, 1 + self.clip_high)
        error = jnp.maximum(free, held)
        error = jnp.where(a < 0, jnp.minimum(error, -a * self.dual_clip), error)
        mean = lambda x: flow.masked_mean(x, mask)  # noqa: E731
        metrics: Metrics = {
            "ratio_mean": mean(ratio),
            "ratio_max": jnp.max(jnp.where(mask[:, None], ratio, 0.0)),
            "clip_fraction": mean((error != free).astype(jnp.float32)),
            "approx_kl": mean(ratio - 1 - log_ratio),
        }
        return mean(error), metrics


def _chains(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Chains float32[b, K + 1, H, d] and log densities [b, K, H, e] of a batch.

    Raises:
        InputError: when the update is traced, if the windows have none.
    """
    if batch.chain is None or batch.chain_log_prob is None:
        raise InputError(
            "rl.objective 'flow_pg' needs the chains of the chunks, but these windows have none; "
            "cut them from rollouts that were collected with a noise level"
        )
    return jnp.asarray(batch.chain), jnp.asarray(batch.chain_log_prob)


def _at(steps: jax.Array, values: jax.Array) -> jax.Array:
    """The entries int32[b, r] `steps` of [b, K, ...] values: [b, r, ...]."""
    return jnp.take_along_axis(values, steps[..., None, None], axis=1)


def _draw_steps(rng: jax.Array, batch: Batch, rows: int) -> jax.Array:
    """Flow steps int32[b, r] of every window: random, all different as long as there are enough."""
    count = _chains(batch)[0].shape[1] - 1
    # A random order of the K steps per window, [b, K]; more rows than steps begin it again.
    orders = jnp.argsort(jax.random.uniform(rng, (len(batch.weight), count)), axis=-1)
    return orders[:, jnp.arange(rows) % count]
