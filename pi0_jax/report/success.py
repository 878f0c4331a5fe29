"""Success rates as HTML: a table with intervals on one axis, and success against guidance."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from pi0_jax.report.bars import interval_axis, interval_bar
from pi0_jax.report.charts import Point, Series, line_chart, percent
from pi0_jax.report.run_data import arm_colour, arm_name, main_arm, rate_text
from pi0_jax.run.success import Row, pool_tasks


def success_table(rows: Sequence[Row]) -> str:
    """All arms and scales on one axis, tasks added up. Without rows it is empty."""
    return _table(pool_tasks(rows)) if rows else ""


def guidance_chart(rows: Sequence[Row]) -> str:
    """Success against guidance scale, with intervals; arms with one scale are level lines.

    Without an arm measured at several scales it is empty.
    """
    arms: dict[str, list[Row]] = {}
    for row in pool_tasks(rows):
        if row.episodes:
            arms.setdefault(row.arm, []).append(row)
    curves = {arm: _curve(group) for arm, group in arms.items()}
    curves = {arm: points for arm, points in curves.items() if len(points) > 1}
    if not curves:
        return ""
    scales = [point.x for points in curves.values() for point in points]
    main, series = main_arm(list(curves)), []
    for arm, group in arms.items():
        level = tuple(Point(scale, group[-1].rate) for scale in (min(scales), max(scales)))
        points = curves.get(arm, level)
        name, colour, curved = arm_name(arm), arm_colour(arm, main), arm in curves
        series.append(Series(name, points, colour, dashed=not curved, markers=curved))
    chart = line_chart("Guidance", series, "guidance scale w", "success", fractions=True)
    return f'<div class="card wide">{chart}</div>'


def _curve(rows: Sequence[Row]) -> tuple[Point, ...]:
    """One point for each guidance scale; a scale measured in two phases shows the later one."""
    points = {
        row.guidance: Point(row.guidance, row.rate, row.wilson_low, row.wilson_high)
        for row in rows
        if row.guidance is not None
    }
    return tuple(points[scale] for scale in sorted(points))


def _table(rows: Sequence[Row]) -> str:
    main = main_arm([row.arm for row in rows if row.arm != "base"])
    body = []
    for _, group in groupby(rows, key=lambda row: (row.phase, row.arm)):
        body += [_line(row, index == 0, main) for index, row in enumerate(group)]
    heads = ("Arm", "Guidance", interval_axis(), "Rate", "95\u202f% interval", "Episodes")
    names = ("", "", "bar", "number", "", "number counts")
    head = "".join(f'<th class="{n}">{h}</th>' for n, h in zip(names, heads, strict=True))
    return (
        f'<table class="results"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _line(row: Row, first: bool, main: str | None) -> str:
    """One row; the arm is named in the first of its rows only."""
    guidance = "" if row.guidance is None else f"w = {row.guidance:g}"
    rate = percent(row.rate) if row.episodes else "?"
    title = f"{arm_name(row.arm)} {guidance}: {rate_text(row)}, {row.successes}/{row.episodes}"
    bar = interval_bar(row.rate, row.wilson_low, row.wilson_high, title, arm_colour(row.arm, main))
    name = " ".join([*["group"] * first, *["main"] * (row.arm == main)])
    return (
        f'<tr class="{name}"><td class="arm">{escape(arm_name(row.arm)) if first else ""}</td>'
        f'<td class="soft">{guidance}</td><td class="bar">{bar}</td>'
        f'<td class="number rate">{rate}</td>'
        f'<td class="soft">[{100 * row.wilson_low:.0f}, {100 * row.wilson_high:.0f}]</td>'
        f'<td class="number counts">{row.successes}/{row.episodes}</td></tr>'
    )
