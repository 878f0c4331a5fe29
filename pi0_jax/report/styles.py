"""How a method is drawn: a colour and dashes of its own, the same in every chart of a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle

from pi0_jax.report.run_data import main_method, method_name

# Colours of page.css. The accent (0) is for the main method; a control has its colour in every run.
_CONTROLS = {"continued_sft": 1, "base": 2, "filtered_bc": 3}
_FREE, _ALL = range(4, 10), range(1, 10)
_WIDTH, _MIDDLE = 30, 6  # of a legend's line, in pixels


@dataclass(frozen=True)
class Style:
    """How one method's lines look.

    Attributes:
        colour: 0 is the page's accent colour; others up to 9.
        dash: 0 for a solid line, 1 for dashes, 2 for dots.
    """

    colour: int
    dash: int = 0


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """A style for each method: no two are the same up to 24 methods that are no controls.

    Args:
        methods: all methods of the run, in order of appearance.
    """
    main = main_method(methods)
    known = {method: Style(_CONTROLS[method]) for method in methods if method in _CONTROLS}
    if main is not None:
        known[main] = Style(0)
    free = [Style(colour) for colour in _FREE]
    free += [Style(colour, dash) for dash in (1, 2) for colour in _ALL]
    others = [method for method in methods if method not in known]
    found = known | dict(zip(others, cycle(free), strict=False))
    return {method: found[method] for method in methods}


def legend(styles: Mapping[str, Style]) -> str:
    """A line of HTML: a short piece of each method's line and its name."""
    keys = (
        f'<span><svg class="key" viewBox="0 0 {_WIDTH} {2 * _MIDDLE}" aria-hidden="true">'
        f'<g class="c{style.colour} d{style.dash}"><path d="M1 {_MIDDLE}H{_WIDTH - 1}"/></g></svg>'
        f"{escape(method_name(method))}</span>"
        for method, style in styles.items()
    )
    return f'<p class="legend">{"".join(keys)}</p>'
