"""Which keys a PyTorch checkpoint has, and which of them nobody needs."""

from pathlib import Path

import pytest

from pi0_jax.convert.keys.keymap import LEROBOT, OPENPI, TRANSFORMERS, TRANSFORMERS_HYBRID
from pi0_jax.convert.sources.torch_keys import (
    depth,
    embedding_key,
    unused_keys,
    without_optional_level,
)
from pi0_jax.errors import InputError


def test_the_token_embedding_is_its_own_tensor_where_there_is_one() -> None:
    own = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    head = "model.paligemma_with_expert.paligemma.lm_head.weight"
    assert embedding_key(LEROBOT, [head]) == head
    assert unused_keys(LEROBOT, [head], head) == {}
    assert embedding_key(LEROBOT, [head, own]) == own
    axes, reason = unused_keys(LEROBOT, [head, own], own)[head]
    assert axes == "vocab vlm" and reason.startswith("stale")


def test_the_experts_word_table_is_known_to_be_unused() -> None:
    for layout, key in (
        (OPENPI, "paligemma_with_expert.gemma_expert.lm_head.weight"),
        (TRANSFORMERS_HYBRID, "paligemma_with_expert.gemma_expert.lm_head.weight"),
        (TRANSFORMERS, "model.dit.embed_tokens.weight"),
    ):
        assert unused_keys(layout, [key, "x"], "embedding").keys() == {key}


def test_depth_is_not_fooled_by_a_stray_layer() -> None:
    keys = [f"layers.{i}.{name}" for i in range(3) for name in "abcd"]
    assert depth(keys, "layers.") == 3
    assert depth([*keys, "layers.7.a"], "layers.") == 3
    assert depth(keys[:-1], "layers.") == 3
    assert depth([], "layers.") == 1


def test_one_tensor_under_two_spellings_is_an_error(tmp_path: Path) -> None:
    keys = ["a.vision_tower.vision_model.b", "a.vision_tower.b"]
    assert without_optional_level(keys[:1], tmp_path) == {"a.vision_tower.b": keys[0]}
    with pytest.raises(InputError, match="the same tensor twice"):
        without_optional_level(keys, tmp_path)
