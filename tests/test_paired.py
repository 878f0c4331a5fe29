"""Won, lost, and how surprising that is."""

import math

import pytest

from pi0_jax.errors import InputError
from pi0_jax.run.paired import Paired, against_one, p_text, paired_from_dict, sign_test, won_lost


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [
        (0, 0, 1.0),  # nothing differs
        (1, 0, 1.0),  # one coin falls on some side
        (2, 0, 0.5),  # two coins agree half the time
        (3, 1, 0.625),  # 2 (1 + 4) / 16
        (5, 0, 2 / 32),
        (4, 4, 1.0),  # not above 1, though both tails hold the middle
    ],
)
def test_few_coins_by_hand(won, lost, p):
    assert sign_test(won, lost) == sign_test(lost, won) == p


@pytest.mark.parametrize(
    ("won", "lost", "text"),
    [
        (19, 6, "0.015"),
        (35, 15, "0.007"),
        (32, 14, "0.011"),
        (55, 28, "0.004"),
        (43, 15, "< 0.001"),
    ],
)
def test_known_comparisons(won, lost, text):
    """19 : 6 is 2 (1 + 25 + 300 + 2300 + 12650 + 53130 + 177100) / 2^25 = 0.0146."""
    assert p_text(sign_test(won, lost)) == text
    assert math.isclose(sign_test(19, 6), 2 * 245506 / 2**25)


def test_states_of_both_are_counted():
    here = {"a": True, "b": True, "c": False, "d": True, "only here": True}
    there = {"a": True, "b": False, "c": True, "d": False, "only there": True}
    assert won_lost(here, there) == (2, 1)


def test_every_scale_against_1_or_the_first():
    solved, not_solved = {"a": True, "b": False}, {"a": False, "b": False}
    found = against_one(
        "eval", "policy", {(0.0, "u"): not_solved, (1.0, ""): solved, (2.0, "b"): not_solved}
    )
    assert [(x.guidance, x.reference, x.against, x.won, x.lost) for x in found] == [
        (0.0, "u", 1.0, 0, 1), (2.0, "b", 1.0, 0, 1),
    ]  # fmt: skip
    (one,) = against_one("eval", "policy", {(1.5, "u"): not_solved, (2.0, "u"): solved})
    assert (one.guidance, one.against, one.won, one.lost) == (2.0, 1.5, 1, 0)
    assert against_one("eval", "policy", {(3.0, "u"): solved}) == []


def test_what_is_stored_is_what_is_read():
    one = Paired("eval", "policy", 1.5, 1.0, 32, 14, "base")
    assert one.as_dict() == {
        "phase": "eval", "method": "policy", "guidance": 1.5, "against": 1.0,
        "won": 32, "lost": 14, "reference": "base", "against_reference": "", "p": one.p,
    }  # fmt: skip
    assert paired_from_dict(one.as_dict()) == one
    assert str(one) == (
        "policy, guidance 1.5 from base against 1 on the same states: won 32, lost 14, "
        "p 0.011 (sign test)"
    )
    with pytest.raises(InputError, match=r"expected a comparison of results.json"):
        paired_from_dict({"won": 3})
