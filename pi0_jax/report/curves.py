"""Learning curves of a run: lines of metrics.jsonl -> charts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi0_jax.report.charts import WIDE, Point, Series, line_chart
from pi0_jax.report.run_data import method_name
from pi0_jax.report.styles import Style, legend

# A chart of 350 px cannot show more points; each is then the mean of neighbours.
_POINTS = 120
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """What one chart shows.

    Attributes:
        title: heading of the chart.
        phase: the lines of metrics.jsonl that it takes.
        keys: keys of these lines to names of the curves.
        y_label: name of the vertical axis.
        x: key of the horizontal axis: optimizer "step" or RIPT "iteration".
        fractions: whether y is a fraction, shown from 0 to 100 %.
    """

    title: str
    phase: str
    keys: Mapping[str, str]
    y_label: str
    x: str = "step"
    fractions: bool = False


_LOSSES = {"loss_cond": "conditional", "loss_uncond": "unconditional", "loss": "total"}
_GROUPS = {"groups_tried": "tried", "groups_accepted": "accepted"}
# In the order of the page: first what the run is for, then what explains it.
_CURVES = (
    Curve("Success on evaluation states", "rl", {"eval_success": ""}, "success", "iteration", True),
    Curve("Groups with mixed outcomes", "rl", _GROUPS, "groups", "iteration"),
    Curve("Loss, reinforcement", "rl", _LOSSES, "flow-matching loss"),
    Curve("Action error, held out", "held_out", {"error": ""}, "standard deviations"),
    Curve("Loss, held out", "held_out", {"loss": ""}, "flow-matching loss"),
    Curve("Loss, supervised", "sft", {"loss": ""}, "flow-matching loss"),
    Curve("Guidance gap", "rl", {"guidance_gap": ""}, "|v cond - v uncond|"),
    Curve("Drift from the acting policy", "rl", {"drift": ""}, "|v - v_old| / |v_old|"),
    Curve("Gradient norm, reinforcement", "rl", {"grad_norm": ""}, "norm"),
    Curve("Gradient norm, supervised", "sft", {"grad_norm": ""}, "norm"),
    Curve("Training windows", "rl", {"windows": ""}, "windows", "iteration"),
    Curve(
        "Weight of positive windows", "rl", {"positive_weight_mean": ""}, "mean weight", "iteration"
    ),
    Curve("Simulator speed", "rl", {"env_steps_per_s": ""}, "steps / s", "iteration"),
)


def success_curves(lines: Lines, styles: Mapping[str, Style]) -> str:
    """Success of the rollouts of all methods on one axis, with a legend; empty without rollouts.

    A point is an iteration, over the rollouts that its policy had learned from.
    """
    points = {method: _against_rollouts(_of(method, lines)) for method in styles}
    drawn = {method: styles[method] for method, of in points.items() if _finite(of)}
    if not drawn:
        return ""
    series = [
        Series(method_name(method), points[method], style.colour, style.dash, markers=True)
        for method, style in drawn.items()
    ]
    chart = line_chart(
        "Rollout success", series, "rollouts so far", "success",
        fractions=True, size=WIDE, labels=False,
    )  # fmt: skip
    return chart + legend(drawn)


def learning_curves(lines: Lines, styles: Mapping[str, Style]) -> list[tuple[str, str]]:
    """(title, svg) of every other chart that has at least one value."""
    charts = []
    for curve in _CURVES:
        of_phase = [line for line in lines if line.get("phase") == curve.phase]
        methods = [method for method in styles if _of(method, of_phase)]
        series = _series(curve, of_phase, {method: styles[method] for method in methods})
        # A run without this phase, or without this value, has no such chart.
        if series:
            # Names of methods times quantities are too long for the ends of the curves.
            many = len(methods) > 1 and len(curve.keys) > 1
            x_label = "iteration" if curve.x == "iteration" else "optimizer step"
            svg = line_chart(
                curve.title, series, x_label, curve.y_label,
                fractions=curve.fractions, labels=not many,
            )  # fmt: skip
            charts.append((curve.title, svg + (_key_legend(curve) if many else "")))
    return charts


def _key_legend(curve: Curve) -> str:
    """Which quantity has which dashes; the method's colours are those of the chart above."""
    return legend({name: Style(1, dash) for dash, name in enumerate(curve.keys.values())})


def _of(method: str, lines: Lines) -> Lines:
    return [line for line in lines if str(line.get("method") or "") == method]


def _against_rollouts(lines: Lines) -> tuple[Point, ...]:
    """Success of each iteration's rollouts, over the number of rollouts before it."""
    # Without rollouts there is no success. Of a repeated iteration the last line counts.
    found = {line.get("iteration"): line for line in lines if line.get("rollouts")}
    points, before = [], 0
    for line in found.values():
        rate = line.get("rollout_success")
        points.append(Point(before, float(rate) if isinstance(rate, int | float) else math.nan))
        before += line["rollouts"]
    return tuple(points)


def _series(curve: Curve, lines: Lines, styles: Mapping[str, Style]) -> list[Series]:
    """One series per method and key that has values, in the method's colour."""
    series = []
    for method, style in styles.items():
        of_method = _of(method, lines)
        for index, (key, name) in enumerate(curve.keys.items()):
            points = _points(of_method, curve.x, key)
            if _finite(points):
                # A name is needed only to tell several methods, or several keys, apart.
                words = [method_name(method)] if len(styles) > 1 or not name else []
                # Several quantities of a method differ by their dashes.
                dash = index if len(curve.keys) > 1 else style.dash
                label = " ".join([*words, name]).strip()
                series.append(Series(label, points, style.colour, dash))
    return series


def _finite(points: Sequence[Point]) -> bool:
    return any(math.isfinite(point.y) for point in points)


def _points(lines: Lines, x: str, key: str) -> tuple[Point, ...]:
    """Values in order of x. If a resumed run repeated a step, its last line counts.

    A null, which stands for NaN, is kept as a gap; lines without the key are left out.
    """
    values: dict[float, float] = {}
    for line in lines:
        place = line.get(x, line.get("step"))
        if key in line and isinstance(place, int | float):
            value = line[key]
            values[place] = float(value) if isinstance(value, int | float) else math.nan
    return _thin([Point(place, values[place]) for place in sorted(values)])


def _thin(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most `_POINTS` points, each the mean of as many neighbours as needed."""
    # Neighbours per point, rounded up.
    size = -(-len(points) // _POINTS)
    if size <= 1:
        return tuple(points)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple(_mean(part) for part in parts)


def _mean(points: Sequence[Point]) -> Point:
    x = sum(point.x for point in points) / len(points)
    return Point(round(x), sum(point.y for point in points) / len(points))
