"""How well each method used its machine, from lines of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pi0_jax.report.charts import number
from pi0_jax.report.run_data import method_name

Lines = Sequence[Mapping[str, Any]]

_HEADS = (
    *("Policy, min", "Share of rollouts", "Observations per call", "Padding"),
    *("Checkpoints, min", "Device, GB", "Host, GB"),
)


def machine_table(lines: Lines) -> str:
    """A line per method that acted; empty if no line says how.

    Args:
        lines: of metrics.jsonl.
    """
    of_method: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        told = "seconds_policy" in line or "seconds_checkpoint" in line
        if line.get("phase") in ("rl", "checkpoint") and told:
            of_method.setdefault(str(line.get("method") or ""), []).append(line)
    if not of_method:
        return ""
    head = "".join(f'<th class="number">{name}</th>' for name in _HEADS)
    body = "".join(_line(method, found) for method, found in of_method.items())
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr><th>Method</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _line(method: str, lines: Lines) -> str:
    # An evaluation during RL has lines of its own, which are not this method's cost.
    acted = [line for line in lines if "seconds_rollout" in line]
    policy, rollouts = (_sum(acted, key) for key in ("seconds_policy", "seconds_rollout"))
    saving = _sum(lines, "seconds_checkpoint")
    cells = (
        number(policy / 60),
        f"{policy / rollouts:.0%}" if rollouts else "?",
        _mean(acted, "observations_per_call", "{:.1f}"),
        _mean(acted, "padding_share", "{:.0%}"),
        number(saving / 60),
        _highest(lines, "device_peak_gb"),
        _highest(lines, "host_peak_gb"),
    )
    row = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f"<tr><td>{escape(method_name(method))}</td>{row}</tr>"


def _values(lines: Lines, key: str) -> list[float]:
    return [float(line[key]) for line in lines if isinstance(line.get(key), int | float)]


def _sum(lines: Lines, key: str) -> float:
    return sum(_values(lines, key))


def _mean(lines: Lines, key: str, form: str) -> str:
    values = _values(lines, key)
    return form.format(sum(values) / len(values)) if values else "?"


def _highest(lines: Lines, key: str) -> str:
    return number(max(values)) if (values := _values(lines, key)) else "?"
