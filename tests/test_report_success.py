"""Charts of success against guidance: one per reference, read back from the page."""

import re

import pytest

from pi0_jax.report.styles import Style
from pi0_jax.report.success import guidance_chart
from pi0_jax.run.success import Row

STYLES = {name: Style(colour, 0) for colour, name in enumerate(("base", "ript", "filtered_bc"), 1)}


def row(method: str, successes: int, guidance: float | None, reference: str = "") -> Row:
    return Row("rl", method, "lift", guidance, successes, 200, reference=reference)


ROWS = [
    row("base", 80, 1.0),
    row("filtered_bc", 150, 1.0),
    row("ript", 140, 1.0),
    row("ript", 150, 2.0, "unconditional"),
    row("ript", 170, 1.5, "base"),
    row("ript", 180, 2.0, "base"),
]


def charts(page: str) -> dict[str, str]:
    """Title -> the rest of its card."""
    return dict(re.findall(r"<figure class=\"card\"><h3>(.*?)</h3>(.*?)</figure>", page, re.S))


def dots(chart: str) -> list[tuple[str, str]]:
    """Success in per cent and scale of each visible dot, as its title says."""
    titles = re.findall(r'<circle class="dot"[^>]*><title>(.*?)</title>', chart)
    pattern = r"RIPT: (\d+)\W.*scale w ([\d.]+)"
    return [found for title in titles for found in re.findall(pattern, title)]


def test_each_reference_has_a_chart_and_scale_1_is_in_all():
    found = charts(guidance_chart(ROWS, STYLES))
    assert list(found) == ["Guidance from unconditional", "Guidance from base"]
    # Dots are RIPT's scales; the others have one scale, and are level lines without dots.
    assert dots(found["Guidance from unconditional"]) == [("70", "1"), ("75", "2")]
    assert dots(found["Guidance from base"]) == [("70", "1"), ("85", "1.5"), ("90", "2")]


@pytest.mark.parametrize("rows", [[], ROWS[:3]])
def test_without_several_scales_there_is_none(rows):
    assert guidance_chart(rows, STYLES) == ""
