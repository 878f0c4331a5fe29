"""Every method of a run looks different, and the same in every chart."""

from html.parser import HTMLParser

from pi0_jax.configs.demo import get_config
from pi0_jax.report.styles import Style, legend, method_styles


def test_the_main_method_has_the_accent_and_controls_their_own_colours():
    found = method_styles(["base", "filtered_bc", "ript", "nft"])
    assert found == {
        "base": Style(2), "filtered_bc": Style(3), "ript": Style(0), "nft": Style(4),
    }  # fmt: skip
    assert method_styles(["base"]) == {"base": Style(0)}
    assert method_styles(["policy"]) == {"policy": Style(0)}
    assert method_styles([]) == {}


def test_all_methods_of_the_largest_comparison_differ():
    config = get_config("ablations")
    methods = ["base", *config.baselines, "ript"]
    found = method_styles(methods)
    assert list(found) == methods
    assert len(methods) >= 18
    assert len(set(found.values())) == len(methods)


def test_more_methods_than_styles_begin_again():
    found = method_styles([f"method_{i}" for i in range(40)])
    assert len(set(found.values())) == 25
    assert len(found) == 40


def test_a_legend_has_a_line_and_a_name_for_each():
    html = legend({"ript": Style(0), "<own>": Style(4, 2)})
    HTMLParser().feed(html)
    assert html.count("<svg") == 2
    assert '<g class="c0 d0">' in html and '<g class="c4 d2">' in html
    assert "RIPT</span>" in html and "&lt;own&gt;</span>" in html
