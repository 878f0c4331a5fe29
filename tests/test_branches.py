"""What each branch of guidance is told."""

import pytest

from pi0_jax.data.branches import BRANCH_MODES, branch_prompt, has_two_prompts

ORDER = "lift the cube"


@pytest.mark.parametrize(
    ("branch_mode", "conditional", "unconditional"),
    [
        ("embedding", ORDER, ORDER),
        ("prompt_dropout", ORDER, ""),
        ("text_indicator", "lift the cube. Advantage: positive", ORDER),
    ],
)
def test_branches(branch_mode, conditional, unconditional):
    assert branch_prompt(branch_mode, ORDER, positive=True) == conditional
    assert branch_prompt(branch_mode, ORDER, positive=False) == unconditional
    # Branches with one prompt share a prefix, and need an embedding to differ.
    assert has_two_prompts(branch_mode) == (conditional != unconditional)


def test_all_are_tested():
    assert BRANCH_MODES == ("embedding", "prompt_dropout", "text_indicator")
