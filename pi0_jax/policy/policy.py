"""A policy: parameters + model + transforms = act(list of RawObs) -> action chunks.

Axis letters: b batch, r suffix row, H action horizon, d padded action dimension, e robot's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.model import flow
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.types import Observation


@partial(jax.jit, static_argnames=("model", "branch_ids"))
def sample(
    model: Pi0,
    branch_ids: tuple[int, ...],
    params: Any,
    obs: Observation,
    noise: jax.Array,
    num_flow_steps: jax.Array | int,
    guidance: jax.Array | float,
) -> jax.Array:
    """Draws one normalised action chunk an observation.

    Args:
        model: the network.
        branch_ids: the branches to run; with both, in the order (UNCONDITIONAL, POSITIVE), they
            are two suffix rows over one prefix cache and are mixed in every Euler step.
        params: parameter tree.
        obs: batch b.
        noise: float32[b, H, d], x at t = 1.
        num_flow_steps: Euler steps.
        guidance: scale s of v_uncond + s (v_cond - v_uncond); read with both branches only.

    Returns:
        float32[b, H, d].
    """
    cache = model.encode_prefix(params, obs)
    ids = jnp.broadcast_to(jnp.array(branch_ids), (noise.shape[0], len(branch_ids)))

    def velocity(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Of x_t [b, 1, H, d], with the branches mixed."""
        x_rows, t_rows = (jnp.repeat(x, len(branch_ids), axis=1) for x in (x_t, time))
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_rows, t_rows, ids)
        if len(branch_ids) == 1:
            return v
        return flow.guide(v[:, :1], v[:, 1:], guidance)

    return flow.euler(velocity, noise[:, None], num_flow_steps)[:, 0]


@partial(jax.jit, static_argnames=("model",))
def sample_by_prompt(
    model: Pi0,
    params: Any,
    obs: Observation,
    noise: jax.Array,
    num_flow_steps: jax.Array | int,
    guidance: jax.Array | float,
) -> jax.Array:
    """As `sample`, for a policy whose branches have prompts of their own and no embedding.

    Args:
        model: the network.
        params: parameter tree.
        obs: batch b of the one branch that is run, or 2b: all of the unconditional branch, then
            all of the conditional one. They are mixed in every Euler step.
        noise: float32[b, H, d], x at t = 1.
        num_flow_steps: Euler steps.
        guidance: as in `sample`.

    Returns:
        float32[b, H, d].
    """
    cache = model.encode_prefix(params, obs)
    copies = obs.state.shape[0] // noise.shape[0]

    def velocity(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Of x_t [b, 1, H, d], with the branches mixed."""
        x_rows, t_rows = (jnp.concatenate([x] * copies) for x in (x_t, time))
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_rows, t_rows)
        return v if copies == 1 else flow.guide(v[: len(noise)], v[len(noise) :], guidance)

    return flow.euler(velocity, noise[:, None], num_flow_steps)[:, 0]


def branches(guidance: float) -> tuple[int, ...]:
    """The branches that a guidance scale needs: at 0 and 1 a single branch is the answer."""
    if guidance == 0.0:
        return (UNCONDITIONAL,)
    if guidance == 1.0:
        return (POSITIVE,)
    return (UNCONDITIONAL, POSITIVE)


@dataclass(frozen=True)
class Policy:
    """What acts: holds no episode and no random state.

    Attributes:
        model: the network.
        params: parameter tree on the device.
        transforms: inputs and outputs.
        guidance: scale s of classifier-free guidance.
        num_flow_steps: Euler steps.
        rows: observations per call of the network; 1 for a single robot. Fewer are padded, so that
            only one program is compiled and the bits of a result do not depend on the batch it
            was in. Programs for another number of rows round differently.
    """

    model: Pi0
    params: Any
    transforms: Transforms
    guidance: float = 1.0
    num_flow_steps: int = 10
    rows: int = 1

    @classmethod
    def from_folder(
        cls, folder: PolicyFolder, guidance: float = 1.0, num_flow_steps: int = 10, rows: int = 1
    ) -> "Policy":
        """Puts a policy folder's parameters on the default device."""
        params = jax.device_put(folder.params)
        return cls(
            Pi0(folder.spec.model), params, folder.transforms, guidance, num_flow_steps, rows
        )

    def with_params(self, params: Any) -> "Policy":
        """The same policy with other parameters; nothing compiles again."""
        return replace(self, params=params)

    def act(self, observations: Sequence[RawObs], noise: np.ndarray) -> np.ndarray:
        """Action chunks in the robot's units, within its limits.

        Args:
            observations: b of them, each with all cameras.
            noise: float32[b, H, d]; equal noise gives equal bits, whatever the batch.

        Returns:
            float32[b, H, e].

        Raises:
            InputError: an action is not finite.
        """
        size = self.rows
        chunks = [
            self._act(observations[i : i + size], noise[i : i + size])
            for i in range(0, len(observations), size)
        ]
        actions = np.concatenate(chunks)
        # Else a simulator would refuse them, and its error would not count against the policy.
        if not np.isfinite(actions).all():
            raise InputError(
                "expected finite actions, got NaN: the parameters of the policy are broken, as "
                "after a training that diverged; go back to an earlier one, or lower its rate"
            )
        return actions

    def _act(self, observations: Sequence[RawObs], noise: np.ndarray) -> np.ndarray:
        count = len(observations)
        branch_ids = branches(self.guidance)
        obs, noise = self._padded((self.transforms.observe(observations), noise), count)
        if has_two_prompts(self.transforms.branch_mode):
            obs = self._in_branches(obs, observations, branch_ids)
        obs, noise = jax.device_put((obs, noise))
        rest = self.params, obs, noise, self.num_flow_steps, self.guidance
        if has_two_prompts(self.transforms.branch_mode):
            chunk = sample_by_prompt(self.model, *rest)
        else:
            chunk = sample(self.model, branch_ids, *rest)
        raw_state = np.stack([o.state for o in observations])
        actions = self.transforms.robot_actions(jax.device_get(chunk)[:count], raw_state)
        return self.transforms.robot.clip(actions)

    def _in_branches(
        self, obs: Observation, observations: Sequence[RawObs], branch_ids: tuple[int, ...]
    ) -> Observation:
        """The padded observations once for each branch, with its prompts: [branches * b, ...]."""
        texts = [o.prompt for o in observations]
        parts = []
        for branch_id in branch_ids:
            said = self.transforms.prompts(texts, positive=branch_id == POSITIVE)
            ids, mask = self._padded(said, len(observations))
            parts.append(replace(obs, prompt=ids, prompt_mask=mask))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _padded(self, tree: Any, count: int) -> Any:
        """Arrays of `count` rows with their last row repeated up to `rows`."""
        missing = self.rows - count
        return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]), tree)
