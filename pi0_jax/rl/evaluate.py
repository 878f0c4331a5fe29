"""Success of a policy on initial states that no training saw."""

from collections.abc import Sequence

from pi0_jax.env.base import Task
from pi0_jax.env.pool import SimulatorPool
from pi0_jax.episode import Episode
from pi0_jax.policy import Policy
from pi0_jax.rl.rollout import Report, collect, plan_states
from pi0_jax.statistics import Phase, Row


def evaluate(
    policy: Policy,
    pool: SimulatorPool,
    tasks: Sequence[Task],
    seeds: Sequence[int],
    execute_steps: int,
    report: Report = lambda episodes: None,
) -> list[Episode]:
    """One episode for every task and seed, in that order.

    Every policy meets the same initial states with the same noise, so differences between arms
    are paired.
    """
    states = [(task, seed) for task in tasks for seed in seeds]
    return collect(policy, pool, plan_states(pool, states), execute_steps, 0, report)


def rows(episodes: Sequence[Episode], phase: Phase, arm: str, guidance: float | None) -> list[Row]:
    """One row a task; episodes that the simulator spoiled are not counted."""
    valid = [episode for episode in episodes if episode.error is None]
    names = dict.fromkeys(episode.task for episode in episodes)
    of_task = {name: [e for e in valid if e.task == name] for name in names}
    return [
        Row(phase, arm, name, guidance, sum(e.success for e in members), len(members))
        for name, members in of_task.items()
    ]
