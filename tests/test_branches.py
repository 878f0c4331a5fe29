"""What each branch of guidance is told."""

import pytest

from pi0_jax.data.branches import CONDITIONS, branch_prompt, by_prompt

ORDER = "lift the cube"


@pytest.mark.parametrize(
    ("condition", "conditional", "unconditional"),
    [
        ("embedding", ORDER, ORDER),
        ("prompt_dropout", ORDER, ""),
        ("text_indicator", "lift the cube. Advantage: positive", ORDER),
    ],
)
def test_branches(condition, conditional, unconditional):
    assert branch_prompt(condition, ORDER, positive=True) == conditional
    assert branch_prompt(condition, ORDER, positive=False) == unconditional
    # Branches with one prompt share a prefix, and need an embedding to differ.
    assert by_prompt(condition) == (conditional != unconditional)


def test_all_are_tested():
    assert CONDITIONS == ("embedding", "prompt_dropout", "text_indicator")
