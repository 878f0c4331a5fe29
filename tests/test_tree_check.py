"""The one error, and what it must list."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.convert import accounting
from pi0_jax.convert.keymap import LEROBOT, OPENPI, TRANSFORMERS, TRANSFORMERS_HYBRID
from pi0_jax.convert.torch_keys import depth, embedding_key, unused_keys, without_optional_level
from pi0_jax.errors import InputError


def test_every_difference_is_one_line() -> None:
    expected = {"a": (2, 3), "b": (4,), "c": (0, 5)}
    found = {"a": (3, 2), "b": (4,), "d": ()}
    assert accounting.compare(expected, found) == [
        "missing c, shape [?, 5]",
        "unexpected d, shape []",
        "a: expected shape [2, 3], got shape [3, 2]",
    ]


def test_integers_are_no_weights() -> None:
    found = {"a": "bfloat16", "b": "int8", "c": "float64", "d": "float16"}
    problems = accounting.dtypes(found)
    assert [line.split(":")[0] for line in problems] == ["b", "c"]
    assert problems[0].endswith("got int8")


@given(
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    size=st.integers(1, 3000),
    data=st.data(),
)
def test_one_bad_value_anywhere_is_found(
    dtype: str, bad: float, size: int, data: st.DataObject
) -> None:
    x = np.full(size, 3.0, np.dtype(dtype))
    assert accounting.is_finite(x) and accounting.is_finite(-x)
    x[data.sample(st.integers(0, size - 1))] = bad
    assert not accounting.is_finite(x)


def test_the_largest_bfloat16_is_finite_and_a_turned_array_is_looked_at_too() -> None:
    largest = ml_dtypes.finfo(ml_dtypes.bfloat16).max
    x = np.array([[largest, -largest], [0, 1]], ml_dtypes.bfloat16)
    assert accounting.is_finite(x.T)


def test_the_error_counts_and_lists() -> None:
    with pytest.raises(InputError, match=r"^file: 2 problems: a; b$"):
        accounting.fail("file", ["a", "b"])
    with pytest.raises(InputError, match=r"^file: 1 problem: a$"):
        accounting.fail("file", iter(["a"]))


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
