"""Learning curves of a run: lines of metrics.jsonl -> charts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi0_jax.report.charts import Point, Series, line_chart
from pi0_jax.report.run_data import main_method, method_colour, method_name

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
    Curve("Rollout success", "rl", {"rollout_success": ""}, "success", "iteration", True),
    Curve("Success on evaluation states", "rl", {"eval_success": ""}, "success", "iteration", True),
    Curve("Groups with mixed outcomes", "rl", _GROUPS, "groups", "iteration"),
    Curve("Loss, reinforcement", "rl", _LOSSES, "flow-matching loss"),
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


def learning_curves(lines: Lines) -> list[tuple[str, str]]:
    """(title, svg) of every chart that has at least one value."""
    charts = []
    for curve in _CURVES:
        series = _series(curve, [line for line in lines if line.get("phase") == curve.phase])
        # A run without this phase, or without this value, has no such chart.
        if series:
            x_label = "iteration" if curve.x == "iteration" else "optimizer step"
            svg = line_chart(curve.title, series, x_label, curve.y_label, fractions=curve.fractions)
            charts.append((curve.title, svg))
    return charts


def _series(curve: Curve, lines: Lines) -> list[Series]:
    """One series per method and key that has values; the main method in the accent colour."""
    # A dict keeps the order of first appearance.
    methods = list(dict.fromkeys(str(line.get("method") or "") for line in lines))
    main = main_method(methods)
    series = []
    for method in methods:
        of_method = [line for line in lines if str(line.get("method") or "") == method]
        curves = {name: _points(of_method, curve.x, key) for key, name in curve.keys.items()}
        drawn = {name: points for name, points in curves.items() if _finite(points)}
        for index, (name, points) in enumerate(drawn.items()):
            # A name is needed only to tell several methods, or several keys, apart.
            words = [method_name(method)] if len(methods) > 1 or not name else []
            colour = method_colour(method, main) if index < 2 else 4
            series.append(Series(" ".join([*words, name]).strip(), points, colour, index == 1))
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
