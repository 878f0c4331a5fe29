"""What an iteration of RL measures, and the line that explains an iteration without new windows."""

from typing import Any

import numpy as np

from pi0_jax.rl.iteration import CollectedGroups, WeightedWindows

PHASES = ("seconds_rollout", "seconds_windows", "seconds_train")


def iteration_metrics(
    iteration: int, collected: CollectedGroups, fresh: WeightedWindows, seconds: np.ndarray
) -> dict[str, Any]:
    """The numbers of one iteration, without those of its updates.

    Args:
        iteration: counted from 1.
        collected: what the rollouts brought.
        fresh: this iteration's windows.
        seconds: float64[3], duration of each phase: rollouts, windows, updates.
    """
    # One weight per window of this iteration, [m]: old windows in the buffer do not count.
    weights = np.zeros(0) if fresh.batch is None else np.asarray(fresh.batch.weight)
    positive = weights[weights > 0]  # [m] -> only the positive ones
    # A rate of no episode is NaN here, and null in metrics.jsonl.
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
        "advantages_not_finite": fresh.advantages_not_finite,
        "windows": len(weights),
        "positive_share": len(positive) / max(1, len(weights)),
        "positive_weight_mean": float(np.mean(positive)) if len(positive) else 0.0,
        **collected.use.metrics(),
        **dict(zip(PHASES, map(float, seconds), strict=True)),
    }


def no_update_reason(collected: CollectedGroups, trains_on: bool) -> str:
    """One line for a person: why an iteration has no new windows, and what happens next.

    Args:
        collected: what the rollouts brought.
        trains_on: there are windows of earlier iterations to train on.
    """
    then = "training continues with earlier windows" if trains_on else "no update"
    if collected.groups:
        # Only with rl.windows.skip_short: the episodes end before their first full chunk.
        what = "no new training windows"
        why = f"in {len(collected.groups)} informative groups every window is too short"
    elif not collected.tried:
        what = "no group was informative"
        skipped = f"all {collected.skipped} groups were skipped"
        why = f"{skipped}: their states are solved, or their task missed its turn"
    elif failed := _all_failed(collected):
        what = "no rollout was completed"
        count = len(collected.episodes)
        why = f"all {count} ended in an error of the simulator, the last: {failed}"
    else:
        what = "no group was informative"
        why = f"{collected.tried} tried, {collected.success_rate:.0%} of the rollouts succeeded"
    return f"{what} ({why}); {then}"


def _all_failed(collected: CollectedGroups) -> str | None:
    """The last simulator error, on one line, if every rollout ended in one; else None."""
    errors = [episode.error for episode in collected.episodes]
    return " ".join(str(errors[-1]).split()) if errors and all(errors) else None
