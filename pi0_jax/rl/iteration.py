"""The pure steps of a RIPT iteration: groups of rollouts -> weights -> windows -> batches.

RIPT (arXiv 2505.17016) without its PPO update: K rollouts from one initial state, leave-one-out
advantages, dynamic sampling; no critic. The update is one of `rl/objectives/`.

Axis letters: n episode, m window, c camera, H action horizon, d padded action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from pi0_jax.data.demonstrations import Demonstrations, WindowSource
from pi0_jax.data.transforms import Transforms
from pi0_jax.data.windows import concatenate, count, cut_windows, take_across, window_starts
from pi0_jax.env.base import Engine, Task
from pi0_jax.episode import Episode, Group, success_by_task, success_rate, without_images
from pi0_jax.hosts.talk import share
from pi0_jax.io.shared_episodes import of_all_hosts
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.advantage import episode_weights
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.init_states import GroupConfig, InitStateSchedule, informative_groups
from pi0_jax.rollout.collect import Ended, Plan, Report, collect, groups_of, plan_groups
from pi0_jax.rollout.policy_use import PolicyUse
from pi0_jax.types import Batch


@dataclass(frozen=True)
class CollectedGroups:
    """What the rollouts of one RIPT iteration brought.

    Attributes:
        episodes: all of them, errors included, group by group; images uint8[look, c, h, w, 3].
        groups: the accepted groups.
        tried: groups tried.
        skipped: groups of the plan that were not tried, because their states are solved or their
            task missed its turn.
        use: calls of the policy.
    """

    episodes: tuple[Episode, ...] = ()
    groups: tuple[Group, ...] = ()
    tried: int = 0
    skipped: int = 0
    use: PolicyUse = field(default_factory=PolicyUse)

    @property
    def success_rate(self) -> float:
        """Success rate of all valid episodes, rejected groups included."""
        return success_rate(self.episodes)

    @property
    def success_by_task(self) -> dict[str, float]:
        """The success rate of each task, by its name."""
        return success_by_task(self.episodes)

    @property
    def accepted_share(self) -> float:
        """Accepted groups among those tried; 0 where none was tried."""
        return len(self.groups) / max(1, self.tried)


@dataclass(frozen=True)
class WeightedWindows:
    """What an iteration's accepted groups give to train on.

    Attributes:
        batch: m windows, images uint8[m, c, h, w, 3], actions float32[m, H, d], weight
            float32[m]; None where no group was accepted or no window is complete.
        advantages_not_finite: number of episodes whose advantage was NaN or infinite; their
            weight is 0.
    """

    batch: Batch | None = None
    advantages_not_finite: int = 0


def collect_groups(
    policy: Policy,
    pool: Engine,
    tasks: Sequence[Task],
    init_states: InitStateSchedule,
    config: RiptConfig,
    execute_steps: int,
    optimizer_step: int,
    report: Report = lambda episodes: None,
    ended: Ended | None = None,
) -> tuple[CollectedGroups, InitStateSchedule]:
    """Collects groups until enough are accepted, `max_groups` are tried, or all are solved.

    Args:
        policy: acts in the rollouts.
        pool: runs the simulators.
        tasks: they take turns.
        init_states: position in the plan of initial states.
        config: which groups, and at which steps images are recorded.
        execute_steps: actions executed of each chunk.
        optimizer_step: recorded with the episodes, and part of the key of their noise.
        report: called with all episodes so far, for a progress line.
        ended: as in `rollout.collect.collect`, over all rounds.

    Returns:
        The groups, and the plan of initial states after them.
    """
    sampling, found = config.groups, CollectedGroups()
    # A window can start only where there is an image: the simulator must record them now.
    look_every = config.windows.every
    # Dynamic sampling rejects groups, so one round may not be enough.
    while len(found.groups) < sampling.enough and found.tried < sampling.max_groups:
        wanted = sampling.groups_per_iteration - len(found.groups)
        starts, skipped, init_states = init_states.next_groups(
            tasks, min(wanted, sampling.max_groups - found.tried), sampling
        )
        # Each host runs its share of the groups, and all learn from all of them.
        plans = plan_groups(pool, share(starts), sampling.group_size)
        so_far = partial(_report_all, report, found.episodes)
        fresh = collect(
            policy,
            pool,
            plans,
            execute_steps,
            optimizer_step,
            so_far,
            look_every=look_every,
            noise_level=config.chosen.noise_in(policy.params),
            ended=ended,
            use=found.use,
        )
        fresh = _exchanged(fresh, plans, sampling, ended)
        groups = groups_of(fresh, sampling.group_size)
        kept = informative_groups(groups, sampling.dynamic_sampling)
        # Rejected groups too: a group that always succeeds is how a state counts as solved.
        init_states = init_states.record(groups, len(kept), sampling)
        found = CollectedGroups(
            (*found.episodes, *fresh),
            (*found.groups, *kept),
            found.tried + len(starts),
            found.skipped + skipped,
            found.use,
        )
        # Every state is solved: another round would find none either.
        if not starts:
            break
    return found, init_states


def weighted_windows(
    groups: Sequence[Group],
    config: RiptConfig,
    transforms: Transforms,
    horizon: int,
    tasks: Sequence[str],
) -> WeightedWindows:
    """The training windows of an iteration's accepted groups.

    Args:
        groups: accepted groups; the weights of their n episodes are computed together.
        config: settings of advantage and windows.
        transforms: transforms of the policy that is trained.
        horizon: actions H per window.
        tasks: names of all tasks of the loop.
    """
    if not groups:
        return WeightedWindows()
    # Rewards [k] per group -> weights [n]: every window of an episode has the episode's weight.
    weights, not_finite = episode_weights([group.rewards for group in groups], config.advantage)
    episodes = [episode for group in groups for episode in group.episodes]
    # With windows.skip_short, episodes that all end early have no window; that is no error.
    if not any(len(window_starts(e, horizon, config.windows)) for e in episodes):
        return WeightedWindows(advantages_not_finite=not_finite)
    # Episodes [n] -> windows [m]: observations and actions are normalised on the way.
    numbers = [tasks.index(e.task) for e in episodes] if config.balance_tasks else None
    batch = cut_windows(episodes, list(weights), transforms, horizon, config.windows, numbers)
    return WeightedWindows(batch, not_finite)


def demo_windows(
    demos: Demonstrations, config: RiptConfig, transforms: Transforms, horizon: int
) -> WindowSource | None:
    """The windows of demonstrations, one at every picture; None where batches hold none.

    Raises:
        InputError: with windows.skip_short, every demonstration is shorter than a window.
    """
    if not config.demo_fraction:
        return None
    # Their weight in the conditional branch is demo_weight; by default they train the other only.
    return demos.windows(transforms, horizon, config.demo_weight, config.windows.skip_short)


def draw_batch(
    rollouts: Sequence[Batch],
    demos: WindowSource | None,
    config: RiptConfig,
    rng: np.random.Generator,
) -> Batch:
    """A training batch: windows drawn from the buffer, plus a share of demonstrations.

    Args:
        rollouts: windows of the accepted groups, one part per iteration in the buffer, actions
            float32[m, H, d].
        demos: windows of demonstrations; None if their share is 0.
        config: batch size b and share of demonstrations.
        rng: random generator of this update.

    Returns:
        b windows, actions float32[b, H, d]; those of demonstrations come last.
    """
    from_demos = round(config.batch_size * config.demo_fraction)
    from_rollouts = config.batch_size - from_demos
    draw = _draw_by_task if config.balance_tasks else _draw_uniformly
    # Indices int[from_rollouts] into windows of all iterations -> actions [from_rollouts, H, d].
    parts = [replace(take_across(rollouts, draw(rollouts, from_rollouts, rng)), task=None)]
    if demos is not None and from_demos:
        # Actions [from_demos, H, d], of which `demo_weight` is the weight.
        parts.append(demos.take(demos.draw(rng, from_demos)))
    return concatenate(parts)  # [b, H, d]


def _draw_uniformly(rollouts: Sequence[Batch], size: int, rng: np.random.Generator) -> np.ndarray:
    """Every window is equally likely, with replacement: int[size]."""
    return rng.integers(sum(count(part) for part in rollouts), size=size)


def _draw_by_task(rollouts: Sequence[Batch], size: int, rng: np.random.Generator) -> np.ndarray:
    """Every task that has windows is equally likely, and then each of its windows: int[size]."""
    tasks = np.concatenate([np.asarray(part.task) for part in rollouts])
    members = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
    owner = rng.integers(len(members), size=size)
    # A fraction of each task's number of windows, because these numbers differ.
    which = rng.random(size)
    return np.array(
        [members[i][int(f * len(members[i]))] for i, f in zip(owner, which, strict=True)]
    )


def _exchanged(
    own: Sequence[Episode], plans: Sequence[Plan], sampling: GroupConfig, ended: Ended | None
) -> list[Episode]:
    """The episodes of all hosts, without images where no window will be cut: gigabytes per round.

    Args:
        own: of this host, in the order of their plans: a table [group, rollout], row by row.
        plans: of its own episodes.
        sampling: which groups are accepted.
        ended: the same episodes by their keys; it is changed.
    """
    groups = groups_of(own, sampling.group_size)
    kept = informative_groups(groups, sampling.dynamic_sampling)
    # A group with an error may become another one, when an interrupted iteration goes on.
    kept += [one for one in groups if len(one.episodes) < sampling.group_size]
    needed = {id(episode) for group in kept for episode in group.episodes}
    found = [e if id(e) in needed else without_images(e) for e in own]
    if ended is not None:
        ended.update({plan.key: episode for plan, episode in zip(plans, found, strict=True)})
    return of_all_hosts(found, sampling.group_size)


def _report_all(report: Report, before: Sequence[Episode], fresh: Sequence[Episode]) -> None:
    report([*before, *fresh])
