"""What an export leaves to the user is said, in every layout that cannot carry it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from checkpoints import ROBOT, TINY

from pi0_jax.convert.out.export_notes import notes, reference_note
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.model.config import pi0, pi05
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import numbered

LAYOUTS = ("openpi", "rlinf", "lerobot", "transformers")
PI0 = PolicySpec(pi0(), ROBOT, execute_steps=4)
ALOHA = dataclasses.replace(ROBOT, state=numbered("s", 14), actions=numbered("a", 14))


def said(family: str, **spec: Any) -> str:
    return "; ".join(notes(family, dataclasses.replace(PI0, **spec)))


@pytest.mark.parametrize("family", LAYOUTS)
def test_a_plain_pi0_is_carried_but_for_the_executed_actions(family: str) -> None:
    """Lerobot's config.json has n_action_steps; no other layout has a place for it."""
    if family == "lerobot":
        assert said(family) == ""
        return
    (note,) = notes(family, PI0)
    assert note.startswith(f"{family}'s files do not say that 4 of 50 actions of a chunk are")
    assert note.endswith("--execute-steps 4")


@pytest.mark.parametrize("family", LAYOUTS)
def test_guidance(family: str) -> None:
    for mode in ("prompt_dropout", "text_indicator"):
        assert "cannot be carried" in said(family, branch_mode=mode)
    text = said(family, branch_mode="text_indicator")
    assert 'write ". Advantage: positive" behind every instruction' in text


def test_a_reference_is_left_out(tmp_path: Path) -> None:
    assert reference_note(tmp_path) == []
    (tmp_path / "reference").mkdir()
    (text,) = reference_note(tmp_path)
    assert "reference/ is left out" in text and "base cannot be carried" in text


@pytest.mark.parametrize("family", LAYOUTS)
def test_the_byte_tokenizer(family: str) -> None:
    assert f"{family} reads them with PaliGemma's tokenizer" in said(family, tokenizer="bytes")


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("openpi", "DeltaActions and AbsoluteActions of the mask 2"),
        ("lerobot", "lerobot 0.6 or newer loads the steps"),
        ("transformers", "transformers does not add the raw state"),
    ],
)
def test_relative_actions(family: str, message: str) -> None:
    assert message in said(family, action_space=ActionSpace((True, True)))


def test_alohas_conversion() -> None:
    for convention, family, message in (
        ("openpi", "openpi", "use a config with adapt_to_pi=True"),
        ("lerobot", "openpi", "limits of the grippers are others"),
        ("openpi", "lerobot", "do not say it: do so yourself"),
    ):
        space = ActionSpace(adapt_to_pi=convention)
        assert message in said(family, action_space=space, robot=ALOHA)


def test_quantiles() -> None:
    assert "transformers does not normalise" in said("transformers", quantile=True)
    assert "use_quantile_norm" in said("openpi", quantile=True)
    assert said("lerobot", quantile=True) == ""


def test_what_stands_in_openpis_training_config() -> None:
    config = said("openpi", model=pi05(), quantile=True, state_in_prompt=True)
    assert "Pi0Config(pi05=True, action_horizon=50, discrete_state_input=True)" in config
    assert "without use_quantile_norm" in said("openpi", model=pi05(), state_in_prompt=True)


def test_a_padded_text() -> None:
    padded: dict[str, Any] = dict(model=pi05(), state_in_prompt=True, padded_state_text=True)
    assert "lerobot from 0.5 on does not pad it" in said("lerobot", **padded)
    assert "openpi does not pad it" in said("openpi", **padded)


def test_sizes_that_a_library_cannot_build() -> None:
    assert "builds gemma_2b only" in said("lerobot", model=TINY)
    assert "gemma_2b" not in said("transformers", model=TINY)
