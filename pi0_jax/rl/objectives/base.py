"""What an objective of RL is, and what its losses share.

Axis letters: b batch, r suffix row, H action horizon, d action dimension.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.training.step import Params, SampledLoss
from pi0_jax.types import Batch, Observation


class Objective(Protocol):
    """Settings of one objective, and the loss that they make.

    Attributes:
        has_guidance: whether the loss trains both branches, so that guidance scales other than 1
            have a meaning.
        requires: keys below `config.rl`, such as "buffer_iterations", and the one value of each
            with which the loss means what it says.
    """

    has_guidance: ClassVar[bool]
    requires: ClassVar[Mapping[str, object]] = {}

    @property
    def rollout_noise(self) -> float:
        """Level of the noise in the flow of the rollouts (`model/flow_sde.py`); 0 for none.

        Where it is learned, that of the first ones.
        """
        return 0.0

    def noise_in(self, params: Params) -> float | np.ndarray:
        """The level in rollouts of these parameters: one number, or float32[d]."""
        del params
        return self.rollout_noise

    @property
    def bounds(self) -> Mapping[str, float]:
        """Largest values of metrics: above one of them, the updates of an iteration end."""
        return {}

    def loss(self, model: Pi0, time_samples: int, branch_mode: str) -> SampledLoss:
        """The loss of a batch of windows, actions float32[b, H, d] and weight float32[b].

        Args:
            model: the network.
            time_samples: noise/time draws per window and branch.
            branch_mode: how the branches differ (`data/branches.py`).
        """
        ...


def both_velocities(
    model: Pi0, params: Params, batch: Batch, x_t: jax.Array, time: jax.Array, branch_mode: str
) -> tuple[jax.Array, jax.Array]:
    """Velocities of the conditional and of the unconditional branch.

    Args:
        model: the network.
        params: parameter tree.
        batch: b windows.
        x_t: float32[b, 2r, H, d]; the first r rows are of the conditional branch.
        time: float32[b, 2r].
        branch_mode: how the branches differ.

    Returns:
        Two float32[b, r, H, d]; by prompt the branches have a prefix each, else they share one.
    """
    velocities = _two_prompts if has_two_prompts(branch_mode) else _by_embedding
    return velocities(model, params, batch, x_t, time)


def _by_embedding(
    model: Pi0, params: Params, batch: Batch, x_t: jax.Array, time: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both branches are suffix rows over one prefix."""
    rows = x_t.shape[1]  # 2r
    ids = jnp.repeat(jnp.array([POSITIVE, UNCONDITIONAL]), rows // 2)
    ids = jnp.broadcast_to(ids, (len(x_t), rows))  # [b, 2r]
    cache = model.encode_prefix(params, batch.obs)
    # 2r rows [b, 2r, H, d] attend to one prefix, so the images are encoded once.
    v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x_t, time, ids)
    v_cond, v_uncond = jnp.split(v, 2, axis=1)  # 2 x [b, r, H, d]
    return v_cond, v_uncond


def _two_prompts(
    model: Pi0, params: Params, batch: Batch, x_t: jax.Array, time: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `_by_embedding`, but each branch has a prefix of its own: 2b observations."""
    # Prompts [b, t] and [b, t] -> [2b, t]; images [b, c, h, w, 3] -> [2b, c, h, w, 3].
    plain = prompts_where(jnp.ones(len(x_t), bool), batch)
    obs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch.obs, plain)
    # [b, 2r, ...] to [2b, r, ...]: the rows of a branch belong to its prefix.
    x_t, time = (jnp.concatenate(jnp.split(x, 2, axis=1)) for x in (x_t, time))
    cache = model.encode_prefix(params, obs)
    v = model.velocity(params, cache, obs.state, x_t, time)  # [2b, r, H, d]
    v_cond, v_uncond = jnp.split(v, 2)  # 2 x [b, r, H, d]
    return v_cond, v_uncond


def prompts_where(uncond: jax.Array, batch: Batch) -> Observation:
    """The observations with the unconditional prompt where bool[b] `uncond`, else their own."""
    obs = batch.obs
    # Windows are made with both prompts wherever the branches differ by them.
    assert batch.uncond_prompt is not None and batch.uncond_prompt_mask is not None
    return replace(
        obs,
        prompt=jnp.where(uncond[:, None], batch.uncond_prompt, obs.prompt),
        prompt_mask=jnp.where(uncond[:, None], batch.uncond_prompt_mask, obs.prompt_mask),
    )


def guidance_gap(v_cond: jax.Array, v_uncond: jax.Array) -> dict[str, jax.Array]:
    """Metrics of how far apart the branches are: without a gap, guidance changes no action.

    Args:
        v_cond: velocities of the conditional branch, [b, r, H, d].
        v_uncond: of the other, of the same x_t and time.
    """
    gap, size = (jnp.sqrt(jnp.mean(jnp.square(v))) for v in (v_cond - v_uncond, v_uncond))
    return {"guidance_gap": gap, "guidance_gap_relative": gap / size}
