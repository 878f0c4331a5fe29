"""Success rates as HTML: a table with intervals, success against guidance, won and lost states."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from pi0_jax.report.bars import interval_axis, interval_bar
from pi0_jax.report.charts import Point, Series, line_chart, percent
from pi0_jax.report.run_data import main_method, method_name, rate_text
from pi0_jax.report.styles import Style
from pi0_jax.run.paired import Paired, p_text
from pi0_jax.run.success import Row, guidance_text, pool_tasks


def success_table(rows: Sequence[Row], styles: Mapping[str, Style]) -> str:
    """All methods and scales on one axis, tasks added up. Empty if there are no rows."""
    return _table(pool_tasks(rows), styles) if rows else ""


def guidance_chart(rows: Sequence[Row], styles: Mapping[str, Style]) -> str:
    """Success against guidance scale, a chart per reference; level lines are of one scale.

    Empty if no method was measured at several scales.
    """
    measured = [row for row in pool_tasks(rows) if row.episodes and row.guidance is not None]
    charts = []
    for reference in dict.fromkeys(row.reference for row in measured if row.guidance != 1.0):
        # Scale 1 has no reference of its own: it belongs to every chart.
        of = [row for row in measured if row.reference == reference or row.guidance == 1.0]
        title = f"Guidance from {reference}" if reference else "Guidance"
        charts.append((title, _guidance_chart(title, of, styles)))
    cards = "".join(
        f'<figure class="card"><h3>{escape(title)}</h3>{chart}</figure>'
        for title, chart in charts
        if chart
    )
    return f'<div class="cards guidance">{cards}</div>' if cards else ""


def _guidance_chart(title: str, rows: Sequence[Row], styles: Mapping[str, Style]) -> str:
    """One reference's chart; empty if no method has several scales."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    curves = {method: _curve(group) for method, group in methods.items()}
    curves = {method: points for method, points in curves.items() if len(points) > 1}
    if not curves:
        return ""
    scales = [point.x for points in curves.values() for point in points]
    series = []
    for method, group in methods.items():
        # A method with one scale is compared with all others: a line over the whole width.
        level = tuple(Point(scale, group[-1].rate) for scale in (min(scales), max(scales)))
        points = curves.get(method, level)
        name, style, curved = method_name(method), styles[method], method in curves
        dash = style.dash if curved else 1
        series.append(Series(name, points, style.colour, dash, markers=curved))
    return line_chart(title, series, "guidance scale w", "success", fractions=True)


def paired_table(paired: Sequence[Paired]) -> str:
    """Initial states that a scale wins and loses against another; empty without comparisons."""
    if not paired:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("Method", "Guidance", "Against"))
    head += "".join(f'<th class="number">{name}</th>' for name in ("Won : lost", "p"))
    lines = (
        f"<tr><td>{escape(method_name(one.method))}</td>"
        f'<td class="soft">w = {escape(guidance_text(one.guidance, one.reference))}</td>'
        f'<td class="soft">w = {escape(guidance_text(one.against, one.against_reference))}</td>'
        f'<td class="number">{one.won} : {one.lost}</td>'
        f'<td class="number">{escape(p_text(one.p))}</td></tr>'
        for one in paired
    )
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _curve(rows: Sequence[Row]) -> tuple[Point, ...]:
    """One point for each guidance scale; a scale measured in two phases shows the later one."""
    # Later rows replace earlier ones under the same key.
    points = {
        row.guidance: Point(row.guidance, row.rate, row.wilson_low, row.wilson_high)
        for row in rows
        if row.guidance is not None
    }
    return tuple(points[scale] for scale in sorted(points))


def _table(rows: Sequence[Row], styles: Mapping[str, Style]) -> str:
    main = main_method([row.method for row in rows if row.method != "base"])
    body = []
    for _, group in groupby(rows, key=lambda row: (row.phase, row.method)):
        body += [
            _line(row, index == 0, main, styles[row.method].colour)
            for index, row in enumerate(group)
        ]
    # interval_axis gives HTML; the other heads are plain words, so nothing is escaped here.
    heads = ("Method", "Guidance", interval_axis(), "Rate", "95\u202f% interval", "Episodes")
    names = ("", "", "bar", "number", "", "number counts")
    head = "".join(f'<th class="{n}">{h}</th>' for n, h in zip(names, heads, strict=True))
    return (
        f'<table class="results"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _line(row: Row, first: bool, main: str | None, colour: int) -> str:
    """One row; only the first row of a method has its name."""
    scale = guidance_text(row.guidance, row.reference)
    guidance = f"w = {scale}" if scale else ""
    rate = percent(row.rate) if row.episodes else "?"
    title = (
        f"{method_name(row.method)} {guidance}: {rate_text(row)}, {row.successes}/{row.episodes}"
    )
    bar = interval_bar(row.rate, row.wilson_low, row.wilson_high, title, colour)
    name = " ".join([*["group"] * first, *["main"] * (row.method == main)])
    return (
        f'<tr class="{name}"><td class="method">'
        f"{escape(method_name(row.method)) if first else ''}</td>"
        f'<td class="soft">{escape(guidance)}</td><td class="bar">{bar}</td>'
        f'<td class="number rate">{rate}</td>'
        f'<td class="soft">[{100 * row.wilson_low:.0f}, {100 * row.wilson_high:.0f}]</td>'
        f'<td class="number counts">{row.successes}/{row.episodes}</td></tr>'
    )
