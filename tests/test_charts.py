"""Charts: valid XML, marks at the right places, gaps at NaN, everything escaped."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from pi0_jax.report.bars import interval_axis, interval_bar, stacked_bar
from pi0_jax.report.charts import Point, Series, line_chart, number, percent, ticks

SCRIPT = '<script>alert("x")</script>'


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def heights(svg: str) -> dict[str, float]:
    """Vertical pixel of every number on the y axis."""
    return {
        t.text or "": float(t.get("y", 0)) - 4
        for t in parse(svg).iterfind(".//text[@class='tick end']")
    }


def chart(*points: Point, **changes: object) -> str:
    series = Series("ript", points, **changes)  # pyright: ignore[reportArgumentType]
    return line_chart("Loss", [series], "step", "loss")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 100, [0, 25, 50, 75, 100]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (3, 17, [5, 10, 15]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]):
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_as_written():
    values = [0, 0.25, 1234, -3.5, 12.345, 2.5e7]
    assert [number(v) for v in values] == [
        "0",
        "0.25",
        "1\u2009234",
        "\u22123.5",
        "12.3",
        "2.50e+07",
    ]
    assert percent(0.333) == "33\u202f%"


def test_points_lie_where_the_axis_says():
    svg = chart(Point(0, 0.0), Point(1, 1.0), Point(2, 2.0), markers=True)
    axis = heights(svg)
    dots = [float(c.get("cy", 0)) for c in parse(svg).iterfind(".//circle")]
    assert dots == pytest.approx([axis["0"], axis["1"], axis["2"]], abs=0.1)
    lefts = [float(c.get("cx", 0)) for c in parse(svg).iterfind(".//circle")]
    assert lefts[1] - lefts[0] == pytest.approx(lefts[2] - lefts[1], abs=0.11)


def test_error_bars_end_at_their_interval():
    points = (Point(0, 0.5, 0.25, 0.75), Point(1, 0.5, 0.5, 1.0))
    svg = line_chart("Guidance", [Series("ript", points)], "w", "success", fractions=True)
    axis = heights(svg)
    first, second = (e.get("d", "") for e in parse(svg).iterfind(".//path[@class='error']"))
    ends = [[float(end.split()[1]) for end in d[1:].split("L")] for d in (first, second)]
    p = "\u202f%"
    assert ends[0] == pytest.approx([axis[f"25{p}"], axis[f"75{p}"]], abs=0.1)
    assert ends[1] == pytest.approx([axis[f"50{p}"], axis[f"100{p}"]], abs=0.1)
    assert f"50{p} [25{p}, 75{p}]" in svg


def test_nan_interrupts_the_curve():
    svg = chart(Point(0, 1.0), Point(1, math.nan), Point(2, 1.0), Point(3, math.inf), Point(4, 2))
    (path,) = parse(svg).iterfind(".//g/path")
    assert path.get("d", "").count("M") == 3
    assert "nan" not in svg
    assert "inf" not in svg


@pytest.mark.parametrize("points", [(), (Point(0, math.nan),)])
def test_nothing_to_draw(points: tuple[Point, ...]):
    assert chart(*points) == '<p class="none">Loss: no values yet</p>'


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, 1e-7, 3e9])
def test_a_single_or_constant_value_can_be_drawn(value: float):
    parse(chart(Point(7, value)))
    parse(chart(Point(7, value), Point(8, value)))


def test_labels_do_not_overlap():
    series = [Series(name, (Point(0, 1.0), Point(1, 1.0))) for name in "abcdef"]
    texts = parse(line_chart("t", series, "x", "y")).iterfind(".//text")
    ys = [float(t.get("y", 0)) for t in texts if "label" in t.get("class", "")]
    assert len(ys) == 6
    assert min(b - a for a, b in pairwise(ys)) >= 13.9


def test_charts_escape():
    series = [Series(SCRIPT, (Point(0, 1.0),)), Series("b", (Point(0, 1.0),))]
    svg = line_chart(SCRIPT, series, SCRIPT, SCRIPT)
    parse(svg)
    assert "<script" not in svg + interval_bar(0.5, 0.2, 0.8, SCRIPT) + stacked_bar(
        [(SCRIPT, 1)], 1
    )


def test_interval_bar_coordinates():
    svg = parse(interval_bar(0.5, 0.2366, 0.7634, "base"))
    rect, dot = svg.find(".//rect"), svg.find(".//circle")
    assert rect is not None
    assert dot is not None
    assert (rect.get("x"), rect.get("width")) == ("23.66%", "52.68%")
    assert dot.get("cx") == "50.00%"
    assert parse(interval_bar(math.nan, 0.0, 1.0, "none")).find(".//circle") is None


def test_axis_and_stack():
    assert [t.get("x") for t in parse(interval_axis())] == ["0%", "25%", "50%", "75%", "100%"]
    rects = list(parse(stacked_bar([("a", 1.0), ("b", 2.0)], 4.0)))
    assert [(r.get("x"), r.get("width")) for r in rects] == [
        ("0.00%", "25.00%"),
        ("25.00%", "50.00%"),
    ]
    parse(stacked_bar([("a", 0.0)], 0.0))


def test_names_at_the_ends_only_where_all_fit():
    def labels(count: int, **changes: bool) -> int:
        series = [Series(f"method {i}", (Point(0, 0.5), Point(1, 0.5))) for i in range(count)]
        return line_chart("Success", series, "step", "rate", **changes).count('class="label')

    # 158 px of height, 14 px a name.
    assert [labels(count) for count in (1, 2, 12, 13)] == [0, 2, 12, 0]
    assert labels(2, labels=False) == 0
