"""What each method of a run cost: rollouts, updates and minutes, from lines of metrics.jsonl."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pi0_jax.report.charts import number
from pi0_jax.report.run_data import method_name

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cost:
    """The cost of one method, without the policy that it started from and without evaluation.

    Attributes:
        rollouts: episodes that it collected; NaN where a line does not say it.
        updates: optimizer steps; NaN likewise.
        seconds_rollout: time of its rollouts [s]; NaN likewise.
        seconds_train: time of its updates, compilation included [s]; NaN likewise.
    """

    rollouts: float
    updates: float
    seconds_rollout: float
    seconds_train: float


def costs(lines: Lines) -> dict[str, Cost]:
    """Method to its cost, for every method that was trained, in order of appearance.

    Args:
        lines: of metrics.jsonl.
    """
    of_method: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        # An evaluation during RL has a line of its own, without rollouts.
        if line.get("phase") == "sft" or (line.get("phase") == "rl" and "rollouts" in line):
            of_method.setdefault(str(line.get("method") or ""), []).append(line)
    return {method: _cost(found) for method, found in of_method.items()}


def cost_table(lines: Lines) -> str:
    """A line per method; empty if none was trained."""
    found = costs(lines)
    if not found:
        return ""
    heads = ("Rollouts", "Updates", "Rollouts, min", "Updates, min", "Both, min")
    head = "".join(f'<th class="number">{name}</th>' for name in heads)
    body = "".join(_line(method, cost) for method, cost in found.items())
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr><th>Method</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _cost(lines: Lines) -> Cost:
    supervised = [line for line in lines if line.get("phase") == "sft"]
    rl = [line for line in lines if line.get("phase") == "rl"]
    # A supervised line counts the steps so far, an iteration's line its own.
    steps = max((_value(line, "step") for line in supervised), default=0.0)
    return Cost(
        rollouts=_sum(rl, "rollouts"),
        updates=steps + _sum(rl, "updates"),
        seconds_rollout=_sum(rl, "seconds_rollout"),
        seconds_train=_sum(lines, "seconds_train"),
    )


def _sum(lines: Lines, key: str) -> float:
    return sum((_value(line, key) for line in lines), 0.0)


def _value(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _line(method: str, cost: Cost) -> str:
    minutes = (cost.seconds_rollout / 60, cost.seconds_train / 60)
    values = (cost.rollouts, cost.updates, *minutes, sum(minutes))
    cells = "".join(f'<td class="number">{_text(value)}</td>' for value in values)
    return f"<tr><td>{escape(method_name(method))}</td>{cells}</tr>"


def _text(value: float) -> str:
    return number(value) if math.isfinite(value) else "?"
