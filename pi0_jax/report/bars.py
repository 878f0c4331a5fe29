"""Bars as inline SVG text, as wide as their cell: intervals from 0 to 100 %, and shares of a whole.

Lengths are in per cent, so the bars of a table have one common axis at every page width.
"""

import math
from collections.abc import Sequence
from html import escape

from pi0_jax.report.charts import percent

# Grid lines and numbers of the axis, in per cent.
_QUARTERS = (0, 25, 50, 75, 100)


def interval_bar(rate: float, low: float, high: float, title: str, colour: int = 0) -> str:
    """One <svg> for an interval on an axis from 0 to 100 %.

    Args:
        rate: fraction in [0, 1]; NaN draws the interval without its dot.
        low: lower end, a fraction.
        high: upper end, a fraction.
        title: text that is shown on hover.
        colour: number of a colour, as in `charts.Series`.
    """
    grid = "".join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="28"/>' for x in _QUARTERS)
    bar = f'x="{100 * low:.2f}%" width="{100 * (high - low):.2f}%"'
    # Height 28 px, the bar in its middle; page.css has the same height.
    dot = f'<circle cx="{100 * rate:.2f}%" cy="14" r="5"/>' if math.isfinite(rate) else ""
    return (
        f'<svg class="interval" role="img" aria-label="{escape(title, quote=True)}">'
        f'{grid}<g class="c{colour}"><title>{escape(title)}</title>'
        f'<rect {bar} y="9" height="10" rx="5"/>{dot}</g></svg>'
    )


def interval_axis() -> str:
    """The numbers of the axis that `interval_bar` draws on."""
    words = (f'<text x="{x}%" y="12">{percent(x / 100)}</text>' for x in _QUARTERS)
    return f'<svg class="interval-axis" aria-hidden="true">{"".join(words)}</svg>'


def stacked_bar(parts: Sequence[tuple[str, float]], total: float) -> str:
    """One <svg> of parts side by side.

    Args:
        parts: (label, value) from left to right; the label is shown on hover.
        total: the value that is the full width.
    """
    start, pieces = 0.0, []
    for index, (label, value) in enumerate(parts):
        # A run that has not worked yet has no total.
        share = 100 * value / total if total else 0.0
        pieces.append(
            f'<rect class="p{index}" x="{start:.2f}%" width="{share:.2f}%" height="16">'
            f"<title>{escape(label)}</title></rect>"
        )
        start += share
    return f'<svg class="stack" role="img">{"".join(pieces)}</svg>'
