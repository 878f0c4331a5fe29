"""Heads are told, never guessed."""

import pytest

from pi0_jax.convert.keys.architecture import HEADS, KEYS, VISION_HEADS
from pi0_jax.convert.keys.heads import UNKNOWN, DeclaredHeads, split
from pi0_jax.errors import InputError


def sizes(queries: int, keys: int, vision: int = 1152, mlp: int = 4304) -> dict[str, int]:
    return {HEADS: queries, KEYS: keys, VISION_HEADS: vision, "vision": vision, "vision_mlp": mlp}


def found(given: dict[str, int]) -> tuple[int, int, int]:
    return given["heads"], given["kv_heads"], given["head_dim"]


def test_the_published_sizes_need_no_help() -> None:
    single = split(sizes(2048, 256), UNKNOWN, UNKNOWN, layout_heads=8)
    assert found(single) == (8, 1, 256)
    assert (single["vision_heads"], single["vision_head_dim"]) == (16, 72)
    assert HEADS not in single


def test_another_ratio_is_ambiguous() -> None:
    # 64 and 16 rows: 4 heads and 1 of 16, or 8 heads and 2 of 8?
    with pytest.raises(InputError, match="--num-heads"):
        split(sizes(64, 16), UNKNOWN, UNKNOWN, layout_heads=8)


def test_a_layout_that_fixes_nothing_needs_its_config() -> None:
    with pytest.raises(InputError, match="--num-heads"):
        split(sizes(2048, 256), UNKNOWN, UNKNOWN)
    assert found(split(sizes(2048, 256), UNKNOWN, DeclaredHeads(16, 2))) == (16, 2, 128)


def test_a_flag_or_the_config_settles_it() -> None:
    assert found(split(sizes(64, 16), DeclaredHeads(4), UNKNOWN)) == (4, 1, 16)
    assert found(split(sizes(64, 16), DeclaredHeads(8), UNKNOWN)) == (8, 2, 8)
    assert found(split(sizes(64, 16), UNKNOWN, DeclaredHeads(8, 2))) == (8, 2, 8)
    # The user knows better than the file.
    assert found(split(sizes(64, 16), DeclaredHeads(4), DeclaredHeads(8, 2))) == (4, 1, 16)


def test_heads_that_do_not_fit_are_refused() -> None:
    for wrong in (DeclaredHeads(7), DeclaredHeads(3)):
        with pytest.raises(InputError, match="do not fit q_proj of 64"):
            split(sizes(64, 16), wrong, UNKNOWN)
    with pytest.raises(InputError, match="do not fit"):
        split(sizes(64, 16), UNKNOWN, DeclaredHeads(8, 1))


def test_an_unknown_image_tower_needs_a_flag() -> None:
    unknown = sizes(2048, 256, vision=96, mlp=128)
    with pytest.raises(InputError, match="--vision-heads"):
        split(unknown, UNKNOWN, UNKNOWN, 8)
    assert split(unknown, DeclaredHeads(vision_heads=6), UNKNOWN, 8)["vision_head_dim"] == 16
    with pytest.raises(InputError, match="do not divide"):
        split(unknown, DeclaredHeads(vision_heads=7), UNKNOWN, 8)
