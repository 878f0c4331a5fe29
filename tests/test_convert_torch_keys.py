"""Which keys a PyTorch checkpoint has, and which of them nobody needs."""

from pathlib import Path

import pytest

from pi0_jax.convert.keys.keymap import LEROBOT, OPENPI, TRANSFORMERS, TRANSFORMERS_HYBRID
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.torch_keys import (
    check_depths,
    depth,
    embedding_key,
    unused_keys,
    without_optional_level,
)
from pi0_jax.errors import InputError

HERE = Path("checkpoint")


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
    # Digits that are no number, and a number that is no layer.
    for name in ("²", "1000000000000"):
        assert depth([*keys, *(f"layers.{name}.{k}" for k in "abcd")], "layers.") == 3


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ((18, 27), None),
        ((17, 27), "17 layers of depth, a language model of width 2048, which has 18"),
        ((18, 26), "26 layers of vision_depth, an image tower of width 1152, which has 27"),
    ],
)
def test_a_published_width_has_the_published_depth(
    depths: tuple[int, int], message: str | None
) -> None:
    found = dict(zip(("depth", "vision_depth"), depths, strict=True))
    sizes = {"vlm": 2048, "vision": 1152}
    check_depths(found, {"vlm": 2047, "vision": 1151}, TorchConfig(), HERE)
    # What config.json declares is right, and its layers are looked for.
    check_depths(found, sizes, TorchConfig(depths=found), HERE)
    if message is None:
        check_depths(found, sizes, TorchConfig(), HERE)
        return
    with pytest.raises(InputError, match=message):
        check_depths(found, sizes, TorchConfig(), HERE)


def test_one_tensor_under_two_spellings_is_an_error(tmp_path: Path) -> None:
    keys = ["a.vision_tower.vision_model.b", "a.vision_tower.b"]
    assert without_optional_level(keys[:1], tmp_path) == {"a.vision_tower.b": keys[0]}
    with pytest.raises(InputError, match="the same tensor twice"):
        without_optional_level(keys, tmp_path)
