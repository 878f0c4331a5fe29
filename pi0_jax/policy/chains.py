"""A policy that acts by Flow-SDE and keeps the chain of every chunk: for the rollouts of RL.

Evaluation and robots follow the plain flow (`policy/policy.py: Policy.act`).

Axis letters: b batch, r suffix row, K flow step, H action horizon, d padded action dimension,
e robot's action dimension.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.model import flow_sde
from pi0_jax.model.pi0 import POSITIVE, Pi0
from pi0_jax.policy.inputs import check_noise, check_observations
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.replicas import Weights
from pi0_jax.types import Observation


class ActedChains(NamedTuple):
    """Actions, and how they were drawn.

    Attributes:
        actions: float32[b, H, e] in the robot's units, within its limits.
        chain: float32[b, K + 1, H, d], from noise to normalised chunk.
        log_prob: float32[b, K, H, e], log density of each step's result in the dimensions that the
            robot has; the padded ones move nothing.
    """

    actions: np.ndarray
    chain: np.ndarray
    log_prob: np.ndarray


@partial(jax.jit, static_argnames=("model", "two_prompts"))
def sample_chains(
    model: Pi0,
    params: Any,
    obs: Observation,
    noise: jax.Array,
    level: flow_sde.Level,
    two_prompts: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Draws one normalised chunk per observation from the conditional branch, by Flow-SDE.

    Args:
        model: the network.
        params: parameter tree.
        obs: observations with leading axis b.
        noise: float32[b, K + 1, H, d], x at t = 1 and the noise of K steps.
        level: how much noise the steps have.
        two_prompts: the branch is told by its prompt, not by the condition embedding.

    Returns:
        The chain float32[b, K + 1, H, d], and log densities float32[b, K, H, d].
    """
    cache = model.encode_prefix(params, obs)
    ids = None if two_prompts else jnp.full((len(noise), 1), POSITIVE)  # [b, r = 1]

    def velocity(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Velocity of x_t [b, 1, H, d] at time [b, 1]."""
        return model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, ids)

    return flow_sde.sample_chain(velocity, noise, level)


def act_in_chains(
    policy: Policy,
    observations: Sequence[RawObs],
    noise: np.ndarray,
    level: float | np.ndarray,
) -> ActedChains:
    """Computes one action chunk per observation, as `Policy.act`, with noise in every flow step.

    Args:
        policy: acts at guidance 1, because a mixture of two branches is not what a loss trains.
        observations: b observations.
        noise: float32[b, K + 1, H, d]; equal noise gives equal bits in any batch.
        level: level of the noise (`model/flow_sde.py`), one number or float32[d].

    Raises:
        InputError: the policy is guided, or an input or an action is refused as in `Policy.act`.
    """
    if policy.guidance != 1.0:
        raise InputError(
            f"a chain of a guided policy has no likelihood under one branch: expected guidance 1, "
            f"got {policy.guidance:g}"
        )
    check_observations(observations, policy.robot)
    check_noise(noise, (len(observations), *chain_shape(policy)))
    two_prompts = has_two_prompts(policy.transforms.branch_mode)

    def sampler(
        weights: Weights, obs: Observation, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Chains [rows, K + 1, H, d] and log densities [rows, K, H, d]."""
        return sample_chains(policy.model, weights.params, obs, noise, level, two_prompts)

    parts = [
        (policy.robot_actions(chain[:, -1], some), chain, log_prob)
        for some, (chain, log_prob) in policy.calls(sampler, observations, noise)
    ]
    actions, chain, log_prob = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ActedChains(actions, chain, log_prob[..., : len(policy.robot.actions)])


def chain_shape(policy: Policy) -> tuple[int, int, int]:
    """[K + 1, H, d] of a chain, and of the noise that it is drawn from."""
    config = policy.model.config
    return policy.num_flow_steps + 1, config.action_horizon, config.action_dim
