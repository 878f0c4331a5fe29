"""Which checkpoints of an RL run are the best: the newest are kept anyway, these besides."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pi0_jax.rl.stop import Outcome, best_iteration


def best_steps(
    outcomes: Sequence[Outcome],
    first_step: int,
    lines: Sequence[Mapping[str, Any]],
    method: str,
    stored: Collection[int],
) -> set[int]:
    """Optimizer steps of the best policies so far, of those that are stored.

    That is the one whose rollouts succeeded most, and the one that did best where it was evaluated
    during RL (`eval.every`); of equal ones the first.

    Args:
        outcomes: how the rollouts of iterations 1, 2, ... ended.
        first_step: optimizer steps before RL.
        lines: of metrics.jsonl.
        method: the lines' method.
        stored: optimizer steps of the checkpoints.
    """
    acted = [one for one in outcomes if first_step + one.optimizer_step in stored]
    best = [first_step + acted[best_iteration(acted)].optimizer_step] if acted else []
    evaluated = [line for line in evaluations(lines, method) if line["step"] in stored]
    if evaluated:
        best.append(max(evaluated, key=lambda line: line["eval_success"])["step"])
    return {*best}


def kept_by_drop(outcomes: Sequence[Outcome], step: int, newest: Collection[int]) -> set[int]:
    """Optimizer steps of the policies that `max_drop` may go back to from one of some checkpoints.

    Of each checkpoint that is the policy of the best rollouts before it. What training started
    from has no checkpoint.

    Args:
        outcomes: how the rollouts of iterations 1, 2, ... ended.
        step: optimizer steps of RL so far.
        newest: the checkpoints' optimizer steps of RL.
    """
    # Where iterations 1, 2, ... ended: there the next one acted.
    ends = [one.optimizer_step for one in outcomes[1:]] + [step]
    before = [outcomes[: i + 1] for i, end in enumerate(ends) if end in newest]
    return {some[best_iteration(some)].optimizer_step for some in before} - {0}


def evaluations(lines: Sequence[Mapping[str, Any]], method: str) -> list[Mapping[str, Any]]:
    """Those of some lines that tell of an evaluation during RL (`rl/evaluation.py`)."""
    return [
        line
        for line in lines
        if line.get("method") == method and line.get("eval_success") is not None
    ]
