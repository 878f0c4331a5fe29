"""Learning curves from lines of metrics.jsonl."""

import re
import xml.etree.ElementTree as ET
from typing import Any

from pi0_jax.report.curves import learning_curves, success_curves
from pi0_jax.report.styles import method_styles

Line = dict[str, Any]


def iteration(method: str, number: int, rollouts: int, success: float | None, **more: Any) -> Line:
    line = {"step": 10 * number, "phase": "rl", "method": method, "iteration": number}
    return line | {"rollouts": rollouts, "rollout_success": success, **more}


def drawn(lines: list[Line]) -> dict[str, list[str]]:
    """Class of each curve -> titles of its points."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    html = success_curves(lines, method_styles(methods))
    svg = ET.fromstring(html[: html.index("</svg>") + 6])
    return {
        g.get("class", ""): [t.text or "" for t in g.iterfind(".//title")]
        for g in svg.iterfind(".//g")
    }


LINES = [
    iteration("base", 0, 0, None),
    *(
        iteration("ript", i, n, rate)
        for i, n, rate in ((1, 256, 0.5), (2, 100, 0.6), (3, 256, 0.7))
    ),
    *(iteration("nft", i, 64, rate) for i, rate in ((1, 0.5), (2, 0.4))),
]


def test_success_over_the_rollouts_that_a_policy_learned_from():
    found = drawn(LINES)
    p = "\u202f%"
    assert found["c0 d0"] == [
        f"RIPT: 50{p} (rollouts so far 0)",
        f"RIPT: 60{p} (rollouts so far 256)",
        f"RIPT: 70{p} (rollouts so far 356)",
    ]
    assert found["c4 d0"] == [f"nft: 50{p} (rollouts so far 0)", f"nft: 40{p} (rollouts so far 64)"]
    assert len(found) == 2


def test_the_legend_names_the_methods_that_are_drawn():
    html = success_curves(LINES, method_styles(["base", "ript", "nft"]))
    assert re.findall(r"</svg>([^<]+)</span>", html) == ["RIPT", "nft"]
    assert 'class="label' not in html


def test_of_a_repeated_iteration_the_last_line_counts():
    lines = [iteration("ript", 1, 8, 0.9), iteration("ript", 1, 8, 0.25)]
    assert drawn([*lines, iteration("ript", 2, 8, 0.5)])["c0 d0"] == [
        "RIPT: 25\u202f% (rollouts so far 0)", "RIPT: 50\u202f% (rollouts so far 8)",
    ]  # fmt: skip


def test_an_iteration_without_a_rate_is_a_gap_and_counts():
    lines = [iteration("ript", 1, 8, None), iteration("ript", 2, 8, 0.5)]
    assert drawn(lines)["c0 d0"] == ["RIPT: 50\u202f% (rollouts so far 8)"]
    # Where every state is solved there are no rollouts, and nothing to show.
    lines = [iteration("ript", 1, 8, 0.5), iteration("ript", 2, 0, None)]
    assert len(drawn(lines)["c0 d0"]) == 1


def test_without_rollouts_there_is_no_chart():
    assert success_curves([], {}) == ""
    line = {"step": 5, "phase": "sft", "method": "base", "loss": 1.0}
    assert success_curves([line], method_styles(["base"])) == ""


def test_an_evaluation_during_rl_has_a_chart():
    line = {"step": 9, "phase": "rl", "method": "ript", "iteration": 2, "eval_success": 0.25}
    ((title, svg),) = learning_curves([line], method_styles(["ript"]))
    assert title == "Success on evaluation states"
    assert "25\u202f%" in svg


def test_methods_differ_by_colour_and_quantities_by_dashes():
    lines = [
        iteration(method, 1, 8, 0.5, loss_cond=1.0, loss_uncond=2.0, guidance_gap=0.1)
        for method in ("ript", "nft")
    ]
    charts = dict(learning_curves(lines, method_styles(["ript", "nft"])))
    loss = charts["Loss, reinforcement"]
    curves = re.findall(r'<g class="(c. d.)"><path d="M[\d.]+ [\d.]+"/>', loss)
    assert sorted(curves) == ["c0 d0", "c0 d1", "c4 d0", "c4 d1"]
    # Names of methods times quantities would not fit: dashes are explained below the chart.
    assert 'class="label' not in loss
    assert re.findall(r"</svg>([^<]+)</span>", loss) == ["conditional", "unconditional", "total"]
    assert charts["Guidance gap"].count('class="label') == 2
    assert "legend" not in charts["Guidance gap"]


def test_one_method_has_its_quantities_named_at_the_curves():
    lines = [iteration("ript", i, 8, 0.5, groups_tried=8, groups_accepted=i) for i in (1, 2)]
    ((title, svg),) = learning_curves(lines, method_styles(["ript"]))
    assert title == "Groups with mixed outcomes"
    assert "legend" not in svg
    assert re.findall(r'class="label c0"[^>]*>([^<]+)<', svg) == ["tried", "accepted"]


def test_long_curves_are_thinned():
    lines = [{"step": s, "phase": "sft", "method": "base", "loss": 1.0} for s in range(5000)]
    ((_, svg),) = learning_curves(lines, method_styles(["base"]))
    assert 100 <= svg.count("<circle") <= 120
