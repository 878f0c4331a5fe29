"""A policy: parameters + model + transforms = act(list of RawObs) -> action chunks.

Axis letters: b batch, t prompt token, r suffix row, s state dimension, H action horizon,
d padded action dimension, e robot's action dimension.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.model import flow
from pi0_jax.model.inpainting import OldChunk, integrate
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.inputs import check_noise, check_observations
from pi0_jax.policy.lean import lean
from pi0_jax.policy.ongoing import Ongoing, old_chunks, with_frozen
from pi0_jax.policy.reference import (
    BASE,
    STATIC,
    Reference,
    kind_of,
    sample_from_base,
    shares_prefix,
)
from pi0_jax.policy.reference_fit import load_with_reference
from pi0_jax.policy.replicas import Replicas, Weights
from pi0_jax.ranges import check_ranges
from pi0_jax.robot import Robot
from pi0_jax.types import FLOW_STEPS, Observation

_STATIC = ("model", "branch_ids", "two_prompts")


# Static arguments decide the shape of the program. The number of steps and the scale are traced, so
# that another value does not compile again.
@partial(jax.jit, static_argnames=_STATIC)
def sample(
    model: Pi0,
    branch_ids: tuple[int, ...],
    params: Any,
    obs: Observation,
    noise: jax.Array,
    num_flow_steps: jax.Array | int,
    guidance: jax.Array | float,
    old: OldChunk | None = None,
    two_prompts: bool = False,
) -> jax.Array:
    """Draws one normalised action chunk per observation.

    Args:
        model: the network.
        branch_ids: the branches to run; with both, in the order (UNCONDITIONAL, POSITIVE), they
            are mixed in every flow step.
        params: parameter tree.
        obs: observations with leading axis b. With `two_prompts` each branch has its own, one
            branch after the other: leading axis branches * b.
        noise: float32[b, H, d], x at t = 1.
        num_flow_steps: steps from noise to actions.
        guidance: scale s of v_uncond + s (v_cond - v_uncond); used only with both branches.
        old: what the chunks continue; None for nothing.
        two_prompts: the branches differ by their prompt. Without it they differ by the condition
            embedding and are suffix rows over one prefix cache.

    Returns:
        float32[b, H, d].
    """
    velocity = guided_velocity(model, branch_ids, params, obs, guidance, two_prompts)
    return integrate(velocity, noise, num_flow_steps, old)


def guided_velocity(
    model: Pi0,
    branch_ids: tuple[int, ...],
    params: Any,
    obs: Observation,
    guidance: jax.Array | float,
    two_prompts: bool,
) -> flow.Velocity:
    """The velocity of chunks of these observations; arguments as `sample`.

    Returns:
        (x_t [b, 1, H, d], time [b, 1]) -> [b, 1, H, d].
    """
    # Once per observation, outside the Euler loop: images and prompt do not change with time.
    cache = model.encode_prefix(params, obs)
    # The branches are rows of one observation (axis 1), or observations of their own (axis 0).
    count, axis = len(branch_ids), 0 if two_prompts else 1
    ids = None
    if not two_prompts:
        ids = jnp.broadcast_to(jnp.array(branch_ids), (len(obs.state), count))  # [b, r]

    def velocity(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Velocity of x_t [b, 1, H, d] at time [b, 1], mixed from the branches: [b, 1, H, d]."""
        # Both branches start from the same x_t: [b, r, H, d], or [branches * b, 1, H, d].
        x_rows, t_rows = (jnp.concatenate([x] * count, axis=axis) for x in (x_t, time))
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_rows, t_rows, ids)
        if count == 1:
            return v
        uncond, cond = jnp.split(v, 2, axis=axis)  # [b, 1, H, d] each
        return flow.guide(uncond, cond, guidance)

    return velocity


def branches(guidance: float) -> tuple[int, ...]:
    """The branches that a guidance scale needs; at 0 and 1 one branch alone is the result."""
    if guidance == 0.0:
        return (UNCONDITIONAL,)
    if guidance == 1.0:
        return (POSITIVE,)
    return (UNCONDITIONAL, POSITIVE)


def chunk_noise(seed: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Noise float32[shape] of one chunk, or of a whole chain: a function of its seed alone."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


Sampler = Callable[[Weights, Observation, Any], Any]
"""(weights, observations [rows, ...], their noise and what else is theirs, a tree of [rows, ...])
-> what is drawn, a tree of [rows, ...]; all of them on one device."""

_IN_FLIGHT = 2
"""Calls per device that are dispatched and not read: the next waits while one is computed."""


@dataclass(frozen=True)
class Policy:
    """Maps observations to action chunks.

    Stateless: noise is an argument, and no history of an episode is kept.

    Attributes:
        model: the network.
        params: parameter tree, on the host or where training holds it.
        transforms: conversion of inputs and outputs.
        guidance: scale s of v_ref + s (v - v_ref).
        num_flow_steps: flow steps per action chunk.
        rows: observations per call of the network; 1 for a single robot. Smaller batches are
            padded to this size, so that only one program is compiled and the bits of an action do
            not depend on the batch it was in. Programs for other numbers of rows round
            differently.
        reference: what guidance leads away from; it is not run at scale 1.
        replicas: the same parameters where it acts: every device of this host has its own, and
            computes every n-th call. Made from `params` and `reference`; another value is ignored.
    """

    model: Pi0
    # Millions of numbers: a notebook that shows a policy shall not print them.
    params: Any = field(repr=False)
    transforms: Transforms
    guidance: Annotated[float, "[0, 1e6]"] = 1.0
    num_flow_steps: Annotated[int, "[1, 1e5]"] = FLOW_STEPS
    rows: Annotated[int, "[1, 1e5]"] = 1
    reference: Reference = field(default_factory=Reference)
    replicas: Replicas | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks ranges, and keeps the replicas of a policy that this one differs little from.

        Raises:
            InputError: a value is out of range; the message names it. Or the scale needs a
                reference.
        """
        check_ranges("policy", self)
        self.reference.check_scale(self.guidance)
        weights = Weights(self.params, self.reference.params)
        # Of a copy with another scale, for example: it shall not copy gigabytes again.
        if self.replicas is None or not self.replicas.are_of(weights):
            fresh = Replicas(weights, self.model.config.compute_dtype)
            object.__setattr__(self, "replicas", fresh)

    @classmethod
    def load(
        cls,
        path: str | Path,
        guidance: float = 1.0,
        num_flow_steps: int = FLOW_STEPS,
        rows: int = 1,
        reference: str | Path = Reference.kind,
    ) -> "Policy":
        """Reads a policy folder; its parameters go to a device when it first acts.

        Args:
            path: the folder, as the converters or train.py wrote it.
            guidance: scale s of v_ref + s (v - v_ref).
            num_flow_steps: flow steps per action chunk.
            rows: observations per call of the network.
            reference: what v_ref is: "unconditional", the policy's other branch; "base", the
                reference that the folder carries; a path, the policy in that folder (Path("base")
                if it has the name of one of these words); "none", with guidance 1 alone.

        Raises:
            InputError: it is no policy folder, or a value is out of range; or the reference is not
                there or does not fit.
        """
        folder, kind = load_with_reference(path, reference), kind_of(reference)
        return cls.from_folder(folder, guidance, num_flow_steps, rows, kind)

    @classmethod
    def from_folder(
        cls,
        folder: PolicyFolder,
        guidance: float = 1.0,
        num_flow_steps: int = FLOW_STEPS,
        rows: int = 1,
        reference: str = Reference.kind,
    ) -> "Policy":
        """As `load`, for a folder that was read before; `reference` is no path."""
        if reference == BASE and folder.reference is None:
            raise InputError(
                f"reference {BASE!r}: {folder.path or 'the policy'} carries none; name the folder "
                "of the base instead"
            )
        led = Reference(reference, folder.reference if reference == BASE else None)
        model, params = Pi0(folder.spec.model), folder.params
        return cls(model, params, folder.transforms, guidance, num_flow_steps, rows, led)

    @property
    def robot(self) -> Robot:
        """The robot of its observations and actions."""
        return self.transforms.robot

    def with_params(self, params: Any) -> "Policy":
        """The same policy with other parameters; nothing compiles again."""
        return replace(self, params=params)

    def act(
        self,
        observations: Sequence[RawObs],
        noise: np.ndarray | None = None,
        seed: int = 0,
        ongoing: Sequence[Ongoing] | None = None,
    ) -> np.ndarray:
        """Computes one action chunk per observation, in the robot's units and within its limits.

        Args:
            observations: b observations, each with the cameras of the policy's robot.
            noise: float32[b, H, d]; equal noise gives equal bits in any batch. None draws it from
                `seed`.
            seed: seed of the noise if none is given; the same seed gives the same actions.
            ongoing: what the robot executes meanwhile, one per observation, so that the new chunks
                continue it; None for robots that wait. It is another program.

        Returns:
            float32[b, H, e].

        Raises:
            InputError: an observation, the noise (`policy/inputs.py`) or an ongoing chunk does not
                fit, or an action is not finite.
        """
        check_observations(observations, self.robot)
        config = self.model.config
        shape = (len(observations), config.action_horizon, config.action_dim)
        if noise is None:
            noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
        check_noise(noise, shape)
        old = None
        if ongoing is not None:
            old = old_chunks(ongoing, observations, self.transforms, config.action_horizon)
        # float32[<= rows, H, e] per call of the network.
        calls = self.calls(self._sample, observations, (np.asarray(noise), old))
        actions = np.concatenate([self.robot_actions(chunk, some) for some, chunk in calls])
        return actions if ongoing is None else with_frozen(actions, ongoing)

    def act_seeded(
        self,
        observations: Sequence[RawObs],
        seeds: Sequence[tuple[int, ...]],
        ongoing: Sequence[Ongoing] | None = None,
    ) -> np.ndarray:
        """As `act`, where every chunk has noise of its own seed, whatever batch it is in.

        Args:
            observations: b observations.
            seeds: b seeds of `numpy.random.default_rng`; (n,) gives the noise that `act` draws for
                one observation from `seed=n`.
            ongoing: as `act`.

        Returns:
            float32[b, H, e].

        Raises:
            InputError: as `act`.
        """
        config = self.model.config
        shape = (config.action_horizon, config.action_dim)
        noise = np.stack([chunk_noise(seed, shape) for seed in seeds])
        return self.act(observations, noise, ongoing=ongoing)

    def calls(
        self, sampler: Sampler, observations: Sequence[RawObs], noise: Any
    ) -> Iterator[tuple[Sequence[RawObs], Any]]:
        """Calls the network for `rows` observations at a time.

        Args:
            sampler: compiled for `rows` observations.
            observations: b observations, checked.
            noise: noise float[b, ...], or a tree of it and of what else the sampler needs.

        Yields:
            b' <= rows observations, and what the sampler drew for them: a host tree of [b', ...].
        """
        # The generator of calls runs ahead of the reader: while a device computes, the host makes
        # the pictures of the next call, and sends it to the next device.
        waiting: deque[tuple[Sequence[RawObs], Any]] = deque()
        for call in self._dispatched(sampler, observations, noise):
            waiting.append(call)
            if len(waiting) > _IN_FLIGHT * len(self._replicas.devices):
                yield _read(*waiting.popleft())
        yield from (_read(*call) for call in waiting)

    def _dispatched(
        self, sampler: Sampler, observations: Sequence[RawObs], noise: Any
    ) -> Iterator[tuple[Sequence[RawObs], Any]]:
        """The calls of `calls`, one after the other on the next device; none is waited for."""
        branch_ids, devices = self._branch_ids, self._replicas.devices
        for number, first in enumerate(range(0, len(observations), self.rows)):
            part, device = slice(first, first + self.rows), devices[number % len(devices)]
            some = observations[part]
            drawn = jax.tree.map(lambda x, part=part: np.asarray(x[part], np.float32), noise)
            # Leading axis to `rows`; rows of a batch do not read each other: padding is harmless.
            obs, drawn = self._padded((self.transforms.observe(some), drawn), len(some))
            if has_two_prompts(self.transforms.branch_mode):
                obs = self._in_branches(obs, some, branch_ids)
            given = jax.device_put((obs, drawn), device)
            yield some, sampler(self._replicas.on(device), *given)

    def robot_actions(self, chunks: np.ndarray, observations: Sequence[RawObs]) -> np.ndarray:
        """Normalised chunks float32[b, H, d] in the robot's units and limits: float32[b, H, e].

        Args:
            chunks: one per observation.
            observations: what they are for; relative actions need their states.

        Raises:
            InputError: an action is not finite.
        """
        # The state before it was normalised: float32[b, s].
        raw_state = np.stack([o.state for o in observations])
        actions = self.robot.clip(self.transforms.robot_actions(chunks, raw_state))
        # Checked here, because a simulator would refuse NaN, and an error of a simulator does not
        # count as a failure of the policy.
        if not np.isfinite(actions).all():
            raise InputError(
                "expected finite actions, got NaN: the parameters of the policy are broken, as "
                "after a training that diverged; go back to an earlier one, or lower its rate"
            )
        return actions

    @property
    def _replicas(self) -> Replicas:
        """`replicas`, which are there since `__post_init__`."""
        assert self.replicas is not None
        return self.replicas

    @property
    def _branch_ids(self) -> tuple[int, ...]:
        """The branches to run: a base takes the place of the other one, and both are positive."""
        return (POSITIVE,) if self.reference.kind == BASE else branches(self.guidance)

    def _sample(
        self, weights: Weights, obs: Observation, drawn: tuple[jax.Array, OldChunk | None]
    ) -> jax.Array:
        """Normalised action chunks [rows, H, d]; all arguments are on one device."""
        noise, old = drawn
        (params, base), scale = weights, self.guidance
        two_prompts = has_two_prompts(self.transforms.branch_mode)
        rest = obs, noise, self.num_flow_steps, scale, old
        if base is not None and scale not in (0.0, 1.0):
            shared = shares_prefix(params, base)
            return lean(sample_from_base, STATIC, params)(
                self.model, params, base, *rest, shared_prefix=shared, two_prompts=two_prompts
            )
        # At 0 the base alone is the result, at 1 the policy.
        acting = base if base is not None and scale == 0.0 else params
        draw = lean(sample, _STATIC, acting)
        return draw(self.model, self._branch_ids, acting, *rest, two_prompts=two_prompts)

    def _in_branches(
        self, obs: Observation, observations: Sequence[RawObs], branch_ids: tuple[int, ...]
    ) -> Observation:
        """The padded observations once per branch, with its prompts: [branches * rows, ...]."""
        parts = []
        for branch_id in branch_ids:
            prompts = self.transforms.prompts(observations, positive=branch_id == POSITIVE)
            ids, mask = self._padded(prompts, len(observations))  # [rows, t] each
            parts.append(replace(obs, prompt=ids, prompt_mask=mask))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _padded(self, tree: Any, count: int) -> Any:
        """Arrays [count, ...] with their last row repeated: [rows, ...]."""
        missing = self.rows - count
        return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]), tree)


def _read(observations: Sequence[RawObs], drawn: Any) -> tuple[Sequence[RawObs], Any]:
    """What a call has drawn, on the host and without its padding: a tree of [b', ...]."""
    return observations, jax.tree.map(itemgetter(slice(len(observations))), jax.device_get(drawn))
