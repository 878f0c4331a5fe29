"""What an iteration of RL leaves in metrics.jsonl, and the line where it had nothing to teach."""

from typing import Any

import numpy as np

from pi0_jax.rl.advantage import episode_weights
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.iteration import CollectedGroups
from pi0_jax.types import Batch

PHASES = ("seconds_rollout", "seconds_windows", "seconds_train")


def iteration_metrics(
    config: RiptConfig,
    iteration: int,
    collected: CollectedGroups,
    fresh: Batch | None,
    seconds: np.ndarray,
) -> dict[str, Any]:
    """One line of metrics.jsonl, without the update's own and the speed.

    Args:
        config: of RIPT.
        iteration: counted from 1.
        collected: what the rollouts brought.
        fresh: this iteration's windows; None where no group taught anything.
        seconds: float64[3] of its phases: rollouts, windows, updates.
    """
    weights = np.zeros(0) if fresh is None else np.asarray(fresh.weight)
    positive = weights[weights > 0]
    rewards = [group.rewards for group in collected.groups]
    return {
        "iteration": iteration,
        "rollout_success": collected.success_rate,
        **{f"success/{task}": rate for task, rate in collected.success_by_task.items()},
        "rollouts": len(collected.episodes),
        "errors": sum(episode.error is not None for episode in collected.episodes),
        "groups_tried": collected.tried,
        "groups_accepted": len(collected.groups),
        "groups_accepted_share": collected.accepted_share,
        "groups_skipped": collected.skipped,
        "advantages_not_finite": episode_weights(rewards, config.advantage)[1] if rewards else 0,
        "windows": len(weights),
        "positive_share": len(positive) / max(1, len(weights)),
        "positive_weight_mean": float(np.mean(positive)) if len(positive) else 0.0,
        **dict(zip(PHASES, map(float, seconds), strict=True)),
    }


def no_update_reason(
    method: str, iteration: int, collected: CollectedGroups, trains_on: bool
) -> str:
    """One line for a person: why a step has no windows, and what becomes of it.

    Args:
        method: name of the method.
        iteration: counted from 1.
        collected: what the rollouts brought.
        trains_on: there are windows of earlier iterations to train on.
    """
    if not collected.tried:
        why = f"all {collected.skipped} groups of initial states are solved and were passed over"
    elif collected.groups:
        why = f"{len(collected.groups)} groups were accepted, but no window of them is whole"
    else:
        why = f"{collected.tried} tried, {collected.success_rate:.0%} of the rollouts succeeded"
    then = "training goes on with earlier windows" if trains_on else "no update"
    return f"{method} {iteration}: no group taught anything ({why}); {then}"
