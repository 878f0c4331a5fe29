"""A fine-tuning in the report: errors on held-out episodes by dimension, and predicted chunks.

Axis letters: t control step, e action dimension.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from pi0_jax.report.charts import number
from pi0_jax.report.traces import trace_chart

HELD_OUT_FOLDER = "held_out"
"""In the run folder: episodes.json, and the pictures that it names."""

PHASE = "held_out"
Lines = Sequence[Mapping[str, Any]]


def held_out_lines(metrics: Lines) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl about held-out episodes; of a repeated step the last."""
    lines = {line["step"]: line for line in metrics if line.get("phase") == PHASE}
    return [lines[step] for step in sorted(lines)]


def best_line(lines: Lines) -> Mapping[str, Any] | None:
    """The line of the policy that the run gives: the smallest action error after a step."""
    known = [line for line in lines if line["step"] and line.get("error") is not None]
    return min(known, key=lambda line: line["error"]) if known else None


def held_out_outcome(lines: Lines) -> str:
    """The result of a fine-tuning in two sentences."""
    best = best_line(lines)
    if best is None:
        return "No policy has been judged on held-out episodes yet."
    text = (
        f"Predicted actions lie {best['error']:.2f} standard deviations from those of held-out "
        f"episodes after {number(best['step'])} steps"
    )
    if len(lines) > 2:
        text += f", the best of {len(lines) - 1} checkpoints"
    first = lines[0]
    if first["step"] == 0 and first.get("error") is not None:
        text += f"; at the start it was {first['error']:.2f}"
    return f"{text}."


def error_table(lines: Lines, episodes: Mapping[str, Any]) -> str:
    """Mean distance by dimension at some steps of a chunk, best policy and start; may be empty."""
    best = best_line(lines)
    if best is None:
        return ""
    first = lines[0] if lines[0]["step"] == 0 else None
    steps = list(dict.fromkeys(int(k[6:].partition("/")[0]) for k in best if "/" in k))
    names = [key.partition("/")[2] for key in best if key.startswith(f"error_{steps[0]}/")]
    units = dict(zip(episodes.get("names", ()), episodes.get("units", ()), strict=False))
    heads = "".join(f'<th class="number">step {step}</th>' for step in steps)
    rows = ""
    for name in names:
        cells = "".join(_cell(best, first, f"error_{step}/{name}") for step in steps)
        rows += (
            f"<tr><td>{escape(name)}</td><td class='soft'>{escape(units.get(name, ''))}</td>"
            f"{cells}</tr>"
        )
    return (
        '<div class="scroll"><table class="numbers"><thead><tr><th>Action</th><th>Unit</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(best: Mapping[str, Any], first: Mapping[str, Any] | None, key: str) -> str:
    before = first.get(key) if first else None
    small = f' <span class="soft">({number(before)})</span>' if before is not None else ""
    value = best.get(key)
    return f'<td class="number">{"?" if value is None else number(value)}{small}</td>'


def predictions(episodes: Mapping[str, Any]) -> str:
    """Pictures of some held-out episodes, and below them recorded and predicted actions."""
    names, units = episodes.get("names", ()), episodes.get("units", ())
    rate = episodes.get("control_hz")
    body = ""
    for one in episodes.get("episodes", ()):
        title = f"Episode {one['number']}: {one['prompt']}"
        pictures = "".join(_picture(picture, rate) for picture in one["pictures"])
        charts = "".join(
            f'<figure class="trace"><figcaption>{escape(_titled(name, unit))}</figcaption>'
            f"{trace_chart(*_dimension(one, index), rate)}</figure>"
            for index, (name, unit) in enumerate(zip(names, units, strict=True))
        )
        body += (
            f'<h3>{escape(title)}</h3><div class="strip">{pictures}</div>'
            f'<div class="traces">{charts}</div>'
        )
    return body


def _titled(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _dimension(episode: Mapping[str, Any], index: int) -> tuple[list[float], dict[int, list]]:
    """One dimension: recorded float[t], and the predicted values by the start of their chunk."""
    recorded = [row[index] for row in episode["recorded"]]
    chunks = {
        chunk["start"]: [row[index] for row in chunk["actions"]] for chunk in episode["chunks"]
    }
    return recorded, chunks


def _picture(picture: Mapping[str, Any], rate: float | None) -> str:
    step = picture["step"]
    when = f"{step / rate:.1f} s" if rate else f"step {step}"
    source = f"{HELD_OUT_FOLDER}/{quote(picture['file'])}"
    return (
        f'<figure><img src="{source}" alt="what the robot saw at {when}" loading="lazy">'
        f"<figcaption>{when}</figcaption></figure>"
    )
