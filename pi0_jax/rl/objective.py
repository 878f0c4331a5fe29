"""The advantage-weighted CFG flow-matching loss.

    L = w(A) L_cond  (windows of positive advantage)  +  alpha L_uncond  (every window)

Both branches share prefix, noise and time: they are suffix rows over one prefix cache, so the
second branch costs one more pass of the small expert. Where the branches differ by their prompt
(`data/conditions.py`) each has a prefix of its own.

Sources: CFGRL (arXiv 2505.23458) for the two terms; RIPT (arXiv 2505.17016) for the advantage;
RECAP (arXiv 2511.14759) and RLinf for a single pass with branch dropout.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from pi0_jax.data.conditions import by_prompt
from pi0_jax.errors import InputError, check_minima
from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.training.step import DrawnLoss, Params, Valued
from pi0_jax.training.supervised import Drawn, draw, drawing
from pi0_jax.types import Batch, Observation


@dataclass(frozen=True)
class LossConfig:
    """From weighted windows to a loss.

    Attributes:
        alpha: weight of the unconditional branch; 0 leaves filtered behaviour cloning.
        time_samples: noise/time draws a window and branch.
        shared_noise: both branches of a window see the same noise and time.
        branch_dropout: 0 trains both branches on every window. p > 0 trains one of them, the
            unconditional one with probability p, which takes the place of alpha: half the cost
            of the expert, and no guidance gap is measured.
    """

    alpha: float = 0.1
    time_samples: int = 1
    shared_noise: bool = True
    branch_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks ranges, and that no key is without effect.

        Raises:
            InputError: named field.
        """
        check_minima("rl.loss", self, {"alpha": 0, "time_samples": 1, "branch_dropout": 0})
        if self.branch_dropout >= 1:
            raise InputError(f"rl.loss.branch_dropout must be in [0, 1), got {self.branch_dropout}")
        if self.branch_dropout and not self.shared_noise:
            raise InputError(
                "rl.loss.shared_noise is off, but with rl.loss.branch_dropout a window has one "
                "branch only: leave shared_noise on, or set branch_dropout to 0"
            )


def make_loss(model: Pi0, config: LossConfig, condition: str) -> DrawnLoss:
    """The loss that `config` describes, for a policy whose branches differ by `condition`."""
    if config.branch_dropout:
        return one_branch_loss(model, config.branch_dropout, config.time_samples, condition)
    return cfg_flow_matching_loss(
        model, config.alpha, config.time_samples, config.shared_noise, condition
    )


def cfg_flow_matching_loss(
    model: Pi0,
    alpha: float,
    time_samples: int,
    shared_noise: bool = True,
    condition: str = "embedding",
) -> DrawnLoss:
    """The loss above.

    Args:
        model: the network.
        alpha: weight of the unconditional branch.
        time_samples: noise/time draws an observation and branch.
        shared_noise: one draw for both branches.
        condition: how the branches differ.
    """
    velocities = _by_prompt if by_prompt(condition) else _by_embedding

    def loss(params: Params, batch: Batch, drawn: Drawn) -> Valued:
        """The weighted two-branch loss of one batch."""
        actions, noise, time = drawn
        x_t = flow.interpolate(actions, noise, time)
        if shared_noise:
            x_t, time = (jnp.concatenate([x, x], axis=1) for x in (x_t, time))
        v_cond, v_uncond = velocities(model, params, batch, x_t, time)
        mask, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
        # The conditional branch saw the first rows; all of them, where noise is shared.
        first, last = jnp.s_[:, :time_samples], jnp.s_[:, -time_samples:]
        # Here the advantage becomes a condition: the positive branch learns what it weighs.
        error = flow.matching_error(v_cond, actions[first], noise[first])
        cond = flow.masked_mean(error, mask, weight)
        error = flow.matching_error(v_uncond, actions[last], noise[last])
        uncond = flow.masked_mean(error, mask)
        gap, size = (jnp.sqrt(jnp.mean(jnp.square(v))) for v in (v_cond - v_uncond, v_uncond))
        metrics = {"loss_cond": cond, "loss_uncond": uncond, "guidance_gap": gap}
        metrics["guidance_gap_relative"] = gap / size
        return cond + alpha * uncond, metrics

    return DrawnLoss(drawing(time_samples if shared_noise else 2 * time_samples), loss)


def one_branch_loss(model: Pi0, dropout: float, time_samples: int, condition: str) -> DrawnLoss:
    """A single pass: each window trains one branch, drawn for it.

    Args:
        model: the network.
        dropout: probability of the unconditional branch, in which a window counts 1; in the
            conditional one it counts w(A).
        time_samples: noise/time draws an observation.
        condition: how the branches differ.
    """

    def drawn(rng: jax.Array, batch: Batch) -> tuple[Drawn, jax.Array]:
        """Noise and time, and bool[b]: whose branch is the unconditional one."""
        branch_rng, rng = jax.random.split(rng)
        dropped = jax.random.bernoulli(branch_rng, dropout, (len(batch.weight),))
        return draw(rng, jnp.asarray(batch.actions), time_samples), dropped

    def loss(params: Params, batch: Batch, drawn: tuple[Drawn, jax.Array]) -> Valued:
        """The weighted loss of one batch, each window in its branch."""
        (actions, noise, time), dropped = drawn
        x_t = flow.interpolate(actions, noise, time)
        obs, ids = batch.obs, None
        if by_prompt(condition):
            obs = _prompts_where(dropped, batch)
        else:
            ids = jnp.where(dropped, UNCONDITIONAL, POSITIVE)[:, None]
            ids = jnp.broadcast_to(ids, time.shape)
        cache = model.encode_prefix(params, obs)
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, ids)
        error, mask = flow.matching_error(v, actions, noise), jnp.asarray(batch.action_mask)
        cond = flow.masked_mean(error, mask, jnp.where(dropped, 0.0, batch.weight))
        uncond = flow.masked_mean(error, mask, dropped.astype(jnp.float32))
        return cond + uncond, {"loss_cond": cond, "loss_uncond": uncond}

    return DrawnLoss(drawn, loss)


def _by_embedding(
    model: Pi0, params: Params, batch: Batch, x_t: jax.Array, time: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Velocities of both branches over one prefix; the first half of the rows is conditional."""
    rows = x_t.shape[1]
    condition = jnp.repeat(jnp.array([POSITIVE, UNCONDITIONAL]), rows // 2)
    condition = jnp.broadcast_to(condition, (len(x_t), rows))
    cache = model.encode_prefix(params, batch.obs)
    v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x_t, time, condition)
    v_cond, v_uncond = jnp.split(v, 2, axis=1)
    return v_cond, v_uncond


def _by_prompt(
    model: Pi0, params: Params, batch: Batch, x_t: jax.Array, time: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `_by_embedding`, but each branch has a prefix of its own: 2b observations."""
    plain = _prompts_where(jnp.ones(len(x_t), bool), batch)
    obs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch.obs, plain)
    # [b, 2r, ...] to [2b, r, ...]: the rows of a branch belong to its prefix.
    x_t, time = (jnp.concatenate(jnp.split(x, 2, axis=1)) for x in (x_t, time))
    cache = model.encode_prefix(params, obs)
    v = model.velocity(params, cache, obs.state, x_t, time)
    v_cond, v_uncond = jnp.split(v, 2)
    return v_cond, v_uncond


def _prompts_where(uncond: jax.Array, batch: Batch) -> Observation:
    """The observations with the unconditional prompt where bool[b] `uncond`, else their own."""
    obs = batch.obs
    assert batch.uncond_prompt is not None and batch.uncond_prompt_mask is not None
    return replace(
        obs,
        prompt=jnp.where(uncond[:, None], batch.uncond_prompt, obs.prompt),
        prompt_mask=jnp.where(uncond[:, None], batch.uncond_prompt_mask, obs.prompt_mask),
    )
