"""A small chart of one action dimension over an episode: what was recorded, and predicted chunks.

Thinner than `charts.py`: a page has dozens of them, so a point has no mark of its own.
"""

from collections.abc import Mapping, Sequence

from pi0_jax.report.charts import number, ticks

_WIDTH, _HEIGHT = 260, 104
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 6, 6, 18


def trace_chart(
    recorded: Sequence[float], chunks: Mapping[int, Sequence[float]], rate: float | None
) -> str:
    """One <svg>: the recorded curve in ink, every chunk in the accent colour from its start on.

    Args:
        recorded: float[t].
        chunks: predicted values by the step at which their chunk starts.
        rate: control steps per second, for an axis in seconds; None for one in steps.
    """
    values = [*recorded, *(value for chunk in chunks.values() for value in chunk)]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    last = max(1, len(recorded) - 1)

    def x(step: float) -> float:
        """Horizontal pixel of a control step."""
        return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        """Vertical pixel of a value."""
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def path(start: int, of: Sequence[float]) -> str:
        """A line through the values, the first at step `start`."""
        points = (f"{x(start + i):.1f} {y(value):.1f}" for i, value in enumerate(of))
        return f'<path d="M{"L".join(points)}"/>'

    scale = rate or 1.0
    bottom = _HEIGHT - _BOTTOM
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="tick end" x="{_LEFT - 5}" y="{y(v) + 4:.1f}">{number(v)}</text>'
        for v in ticks(low, high, 2)
    )
    grid += "".join(
        f'<text class="tick middle" x="{x(v * scale):.1f}" y="{bottom + 14}">{number(v)}</text>'
        for v in ticks(0.0, last / scale, 3)
    )
    marks = "".join(
        f'<line class="grid" x1="{x(start):.1f}" x2="{x(start):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        for start in chunks
    )
    predicted = "".join(path(start, chunk) for start, chunk in chunks.items())
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="recorded and predicted">{grid}{marks}'
        f'<g class="c2 d0">{path(0, recorded)}</g><g class="c0 d0">{predicted}</g></svg>'
    )
