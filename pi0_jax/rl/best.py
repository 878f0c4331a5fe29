"""Which checkpoints of an RL run are the best: the newest are kept anyway, these besides."""

from collections.abc import Mapping, Sequence
from typing import Any

from pi0_jax.rl.stop import Outcome, best_iteration


def best_steps(
    outcomes: Sequence[Outcome], first_step: int, lines: Sequence[Mapping[str, Any]], method: str
) -> set[int]:
    """Optimizer steps of the best policies so far.

    That is the one whose rollouts succeeded most, and the one that did best where it was evaluated
    during RL (`eval.every`); of equal ones the first.

    Args:
        outcomes: how the rollouts of iterations 1, 2, ... ended; at least one.
        first_step: optimizer steps before RL.
        lines: of metrics.jsonl.
        method: the lines' method.
    """
    best = first_step + outcomes[best_iteration(outcomes)].optimizer_step
    evaluated = [
        line
        for line in lines
        if line.get("method") == method and line.get("eval_success") is not None
    ]
    found = [max(evaluated, key=lambda line: line["eval_success"])["step"]] if evaluated else []
    return {best, *found}
