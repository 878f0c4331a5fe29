"""One step of RIPT: groups of rollouts -> advantages -> weighted windows -> batches.

RIPT (arXiv 2505.17016) without its PPO update: K rollouts of one initial state, leave-one-out
advantages, dynamic sampling; no critic, no likelihood. The update is `rl.objective`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import concatenate, count, cut_windows, take
from pi0_jax.env.base import Task
from pi0_jax.env.pool import SimulatorPool
from pi0_jax.episode import Episode, Group
from pi0_jax.errors import InputError, check_minima
from pi0_jax.policy import Policy
from pi0_jax.rl.advantage import leave_one_out, positive_weights, rescale
from pi0_jax.rl.rollout import Report, collect, group_by_state, plan_states
from pi0_jax.rl.sampler import Sampler
from pi0_jax.types import Batch


@dataclass(frozen=True)
class RiptConfig:
    """What a RIPT step collects, weighs and trains on.

    Attributes:
        iterations: RIPT steps.
        group_size: rollouts K from one initial state.
        groups_per_step: accepted groups wanted in a step.
        max_groups: groups tried in a step at most; a policy that always succeeds or always
            fails ends the step here instead of searching for ever.
        first_seed: of the training initial states.
        dynamic_sampling: reject groups that all ended alike.
        success_weight: weigh every successful episode 1, whatever its group: filtered behaviour
            cloning. Otherwise by the leave-one-out advantage.
        a_max: upper bound of a weight.
        hard: weight 1 for every positive advantage.
        alpha: weight of the unconditional branch.
        guidance: scale at which the rollout policy acts.
        updates_per_step: optimizer steps a RIPT step.
        batch_size: windows an optimizer step.
        time_samples: noise/time draws a window and branch.
        demo_fraction: share of a batch drawn from demonstrations; they train the unconditional
            branch only.
    """

    iterations: int
    group_size: int
    groups_per_step: int
    max_groups: int
    first_seed: int
    dynamic_sampling: bool
    success_weight: bool
    a_max: float
    hard: bool
    alpha: float
    guidance: float
    updates_per_step: int
    batch_size: int
    time_samples: int
    demo_fraction: float

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        minima = dict.fromkeys(("iterations", "updates_per_step", "batch_size", "time_samples"), 1)
        minima |= dict.fromkeys(("alpha", "a_max", "guidance", "groups_per_step", "first_seed"), 0)
        check_minima("rl", self, minima | {"group_size": 2})
        if self.max_groups < self.groups_per_step:
            raise InputError(
                f"rl.max_groups ({self.max_groups}) must be at least rl.groups_per_step "
                f"({self.groups_per_step})"
            )
        if not 0 <= self.demo_fraction < 1:
            raise InputError(f"rl.demo_fraction must be in [0, 1), got {self.demo_fraction}")


@dataclass(frozen=True)
class Harvest:
    """What one RIPT step brought in.

    Attributes:
        episodes: all of them, errors included.
        groups: the accepted groups.
        tried: groups tried.
    """

    episodes: tuple[Episode, ...]
    groups: tuple[Group, ...]
    tried: int

    @property
    def success_rate(self) -> float:
        """Of all valid episodes, rejected groups included."""
        rewards = [episode.reward for episode in self.episodes if episode.error is None]
        return float(np.mean(rewards)) if rewards else float("nan")


def harvest(
    policy: Policy,
    pool: SimulatorPool,
    tasks: Sequence[Task],
    sampler: Sampler,
    config: RiptConfig,
    execute_steps: int,
    policy_step: int,
    report: Report = lambda episodes: None,
) -> tuple[Harvest, Sampler]:
    """Collects groups until enough are accepted or `max_groups` have been tried."""
    episodes: list[Episode] = []
    accepted: list[Group] = []
    tried = 0
    while len(accepted) < config.groups_per_step and tried < config.max_groups:
        missing = config.groups_per_step - len(accepted)
        states, sampler = sampler.draw(tasks, min(missing, config.max_groups - tried))
        plans = plan_states(pool, states, config.group_size)
        so_far = partial(_report_all, report, tuple(episodes))
        fresh = collect(policy, pool, plans, execute_steps, policy_step, so_far)
        kept, sampler = sampler.accept(group_by_state(fresh), config.dynamic_sampling)
        episodes += fresh
        accepted += kept
        tried += len(states)
    return Harvest(tuple(episodes), tuple(accepted), tried), sampler


def _report_all(report: Report, before: tuple[Episode, ...], fresh: Sequence[Episode]) -> None:
    report([*before, *fresh])


def episode_weights(groups: Sequence[Group], config: RiptConfig) -> np.ndarray:
    """w(A) of every episode of the groups, in order; mean 1 over the positive ones.

    Returns:
        float32[n].
    """
    if config.success_weight:
        return np.concatenate([group.rewards for group in groups])
    advantages = np.concatenate([leave_one_out(group.rewards) for group in groups])
    return rescale(positive_weights(advantages, config.a_max, config.hard))


def weighted_windows(
    groups: Sequence[Group], config: RiptConfig, transforms: Transforms, horizon: int
) -> Batch | None:
    """The training windows of accepted groups; None where there is no group."""
    if not groups:
        return None
    episodes = [episode for group in groups for episode in group.episodes]
    return cut_windows(episodes, list(episode_weights(groups, config)), transforms, horizon)


def draw_batch(
    rollouts: Batch, demos: Batch | None, config: RiptConfig, rng: np.random.Generator
) -> Batch:
    """A training batch: windows drawn uniformly from the buffer, plus a share of demonstrations.

    Args:
        rollouts: windows of all accepted groups so far.
        demos: windows of demonstrations, of weight 0; None if their share is 0.
        config: batch size and share.
        rng: of this update.
    """
    from_demos = round(config.batch_size * config.demo_fraction)
    from_rollouts = config.batch_size - from_demos
    parts = [take(rollouts, rng.integers(count(rollouts), size=from_rollouts))]
    if demos is not None:
        parts.append(take(demos, rng.integers(count(demos), size=from_demos)))
    return concatenate(parts)
