"""Line charts with error bars as inline SVG text, and how numbers are written.

Colours, fonts and dark mode come from the page's stylesheet (page.css) by class name, so a chart
is only geometry and text. Every mark has a <title>, which browsers show on hover.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _TOP, _BOTTOM = 46, 30, 40
# Rough width of a letter: an SVG cannot wrap text, and a margin that is too wide does no harm.
_LETTER_PX = 6.9
_LABEL_GAP_PX = 14


@dataclass(frozen=True)
class Size:
    """Units of a chart's viewBox; the page shows it at about its natural size [px]."""

    width: int
    height: int


SMALL, WIDE = Size(350, 228), Size(720, 320)


@dataclass(frozen=True)
class Point:
    """One value of a curve.

    Attributes:
        x: in units of the horizontal axis.
        y: in units of the vertical axis; NaN for a gap.
        low: lower end of the error bar; None for no bar.
        high: upper end of the error bar; None for no bar.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: name at the curve's right end.
        points: in order of x; a y that is not finite interrupts the curve.
        colour: 0 is the page's accent colour, others up to 9.
        dash: 0 for a solid line, 1 for dashes, 2 for dots.
        markers: whether a dot is drawn at each point; if not, a point only shows its title on
            hover.
    """

    label: str
    points: tuple[Point, ...]
    colour: int = 0
    dash: int = 0
    markers: bool = False


@dataclass(frozen=True)
class Frame:
    """Maps data to a chart.

    Ranges are in data units; `right`, the end of the axis, and `size` in viewBox pixels.
    """

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    right: float
    size: Size

    @property
    def bottom(self) -> float:
        """Vertical pixel of the horizontal axis."""
        return self.size.height - _BOTTOM

    def x(self, value: float) -> float:
        """Horizontal pixel of a data value."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (self.right - _LEFT)

    def y(self, value: float) -> float:
        """Vertical pixel of a data value; pixels count downward."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.bottom - share * (self.bottom - _TOP)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten) within [low, high]."""
    step = _round_up((high - low) / count)
    # The small number forgives rounding, so that the ends of the range keep their ticks.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(value: float) -> str:
    """Three significant digits, thousands with a thin space, no exponent below a million."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    # 2 digits after the point for 1 to 9.99, 1 for 10 to 99.9, none from 100 on.
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{digits}f}".replace(",", "\u2009")
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "\u2212")


def percent(value: float) -> str:
    """A fraction as whole per cent, with a narrow no-break space before the sign."""
    return f"{value:.0%}".replace("%", "\u202f%")


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    fractions: bool = False,
    size: Size = SMALL,
    labels: bool = True,
) -> str:
    """One <svg> with axes, light grid, curves, and labels at the curves' ends.

    Args:
        title: text for screen readers; the page has its own heading.
        series: curves; if no point is finite, the result is a line of text that says so.
        x_label: name of the horizontal axis, with its unit.
        y_label: name of the vertical axis, with its unit.
        fractions: whether y is a fraction, shown from 0 to 100 %.
        size: of the viewBox.
        labels: whether several curves have their names at their ends, if all of them fit.
    """
    shown = [(p.x, p.y) for one in series for p in one.points if math.isfinite(p.y)]
    if not shown:
        return f'<p class="none">{escape(title)}: no values yet</p>'
    room = (size.height - _BOTTOM - _TOP) // _LABEL_GAP_PX + 1
    # One curve alone needs no label, because the heading names it.
    labelled = series if labels and 1 < len(series) <= room else ()
    frame = _frame(series, labelled, shown, fractions, size)
    written = percent if fractions else number
    parts = [
        _grid(frame, written, whole_x=all(float(x).is_integer() for x, _ in shown)),
        _text(2, 12, y_label, "axis"),
        _text(_LEFT + (frame.right - _LEFT) / 2, size.height - 6, x_label, "axis middle"),
        # The accent colour (0) is drawn last, on top of the quieter curves.
        *(
            _curve(one, frame, x_label, written)
            for one in sorted(series, key=lambda one: -one.colour)
        ),
        _labels(labelled, frame),
    ]
    label = escape(f"{title}: {y_label} against {x_label}", quote=True)
    view = f'viewBox="0 0 {size.width} {size.height}"'
    return f'<svg class="chart" role="img" aria-label="{label}" {view}>{"".join(parts)}</svg>'


def _round_up(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= step * (1 - 1e-9))


def _frame(
    series: Sequence[Series],
    labelled: Sequence[Series],
    shown: Sequence[tuple[float, float]],
    fractions: bool,
    size: Size,
) -> Frame:
    """Ranges that hold all points and error bars; y contains 0, so that heights compare."""
    x_low, x_high = min(x for x, _ in shown), max(x for x, _ in shown)
    ends = [end for one in series for p in one.points for end in (p.low, p.high) if end is not None]
    values = [y for _, y in shown] + ends
    y_low, y_high = (0.0, 1.0) if fractions else (min(0.0, *values), max(0.0, *values))
    # All values are 0: any height will do.
    if y_low == y_high:
        y_high = y_low + 1.0
    step = _round_up((y_high - y_low) / 4)
    y_low, y_high = math.floor(y_low / step) * step, math.ceil(y_high / step - 1e-9) * step
    longest = max((len(one.label) for one in labelled), default=0)
    right = size.width - max(14.0, min(150.0, longest * _LETTER_PX + 14))
    # A single x has no width: half a unit to both sides puts it in the middle.
    margin = 0.5 if x_low == x_high else 0.02 * (x_high - x_low)
    return Frame(x_low - margin, x_high + margin, y_low, y_high, right, size)


def _text(x: float, y: float, text: str, name: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _grid(frame: Frame, written: Callable[[float], str], *, whole_x: bool) -> str:
    lines = []
    for value in ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        name = "zero" if value == 0 else "grid"
        lines.append(
            f'<line class="{name}" x1="{_LEFT}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        lines.append(_text(_LEFT - 7, y + 4, written(value), "tick end"))
    for value in ticks(frame.x_low, frame.x_high, 5):
        # Steps and iterations are whole numbers; a tick at 2.5 iterations would mean nothing.
        if whole_x and not math.isclose(value, round(value), abs_tol=1e-9):
            continue
        lines.append(_text(frame.x(value), frame.bottom + 16, number(value), "tick middle"))
    return "".join(lines)


def _curve(series: Series, frame: Frame, x_label: str, written: Callable[[float], str]) -> str:
    finite = [point for point in series.points if math.isfinite(point.y)]
    # A visible dot where single values matter; otherwise an invisible one for the pointer.
    radius = 3.5 if series.markers or len(finite) == 1 else 5
    name = "dot" if radius == 3.5 else "hover"
    parts = [f'<path d="{_path(series.points, frame)}"/>']
    for point in finite:
        parts.append(_error_bar(point, frame))
        label = f"{series.label}: {written(point.y)}{_interval(point, written)}"
        where = f"{x_label} {number(point.x)}"
        parts.append(
            f'<circle class="{name}" cx="{frame.x(point.x):.1f}" cy="{frame.y(point.y):.1f}" '
            f'r="{radius}"><title>{escape(label)} ({escape(where)})</title></circle>'
        )
    return f'<g class="c{series.colour} d{series.dash}">{"".join(parts)}</g>'


def _path(points: Sequence[Point], frame: Frame) -> str:
    """SVG path commands; a new line starts after each gap."""
    commands, pen = [], "M"
    for point in points:
        if not math.isfinite(point.y):
            pen = "M"
            continue
        commands.append(f"{pen}{frame.x(point.x):.1f} {frame.y(point.y):.1f}")
        pen = "L"
    return "".join(commands)


def _error_bar(point: Point, frame: Frame) -> str:
    if point.low is None or point.high is None:
        return ""
    x, low, high = frame.x(point.x), frame.y(point.low), frame.y(point.high)
    return f'<path class="error" d="M{x:.1f} {low:.1f}L{x:.1f} {high:.1f}"/>'


def _interval(point: Point, written: Callable[[float], str]) -> str:
    if point.low is None or point.high is None:
        return ""
    return f" [{written(point.low)}, {written(point.high)}]"


def _labels(series: Sequence[Series], frame: Frame) -> str:
    """Names at the curves' last points, pushed apart where they would overlap."""
    ends = []
    for one in series:
        finite = [point for point in one.points if math.isfinite(point.y)]
        if finite:
            ends.append((frame.y(finite[-1].y), one))
    ends.sort(key=lambda end: end[0])
    heights = _spread([y for y, _ in ends], _TOP, frame.bottom)
    return "".join(
        _text(frame.right + 8, y + 4, one.label, f"label c{one.colour}")
        for y, (_, one) in zip(heights, ends, strict=True)
    )


def _spread(heights: Sequence[float], low: float, high: float) -> list[float]:
    """Sorted heights, at least one line of text apart, within [low, high] where they fit."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + _LABEL_GAP_PX) if spread else max(height, low))
    # Back from the bottom: what the first pass pushed out of the chart moves up again.
    ceiling = high
    for index in reversed(range(len(spread))):
        spread[index] = min(spread[index], ceiling)
        ceiling = spread[index] - _LABEL_GAP_PX
    return spread
