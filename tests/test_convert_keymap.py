"""The table against the published names and shapes, and its one operation."""

import json
from typing import Any

import numpy as np
import pytest
from checkpoints import REFERENCE, TINY
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.convert.keys import keymap
from pi0_jax.convert.keys.architecture import Settings, axis_sizes, config_from_sizes, vote
from pi0_jax.convert.keys.keymap import LEAVES, PI05_LEAVES, groups, rearrange, shape
from pi0_jax.convert.sources.source import leaf_shapes, tasks
from pi0_jax.errors import InputError
from pi0_jax.io.tree_check import shapes_by_path
from pi0_jax.model.config import Pi0Config, pi0, pi05, tiny, tiny_pi05
from pi0_jax.model.pi0 import Pi0


def torch_shapes(layout: keymap.TorchLayout, config: Pi0Config) -> dict[str, tuple[int, ...]]:
    sizes = axis_sizes(config)
    return {
        layout.key(tensor, i or 0): shape(tensor.axes, sizes)
        for leaf, i in tasks(config)
        for tensor in leaf.tensors
    }


@pytest.mark.parametrize(
    ("layout", "file", "part"),
    [
        (keymap.OPENPI, "torch_openpi.json", "tensors"),
        (keymap.LEROBOT, "torch_lerobot_new.json", "tensors"),
        (keymap.LEROBOT, "torch_lerobot_old.json", "tensors_tf452"),
        (keymap.LEROBOT_OLD, "torch_lerobot_old.json", "tensors"),
        (keymap.TRANSFORMERS_HYBRID, "torch_transformers.json", "tensors_on_disk"),
        (keymap.TRANSFORMERS, "torch_transformers.json", "tensors"),
        (keymap.OPENPI, "torch_openpi_pi05.json", "tensors"),
    ],
)
def test_the_table_names_every_published_tensor(
    layout: keymap.TorchLayout, file: str, part: str
) -> None:
    listed: Any = json.loads((REFERENCE / file).read_text())[part]
    config = pi05() if "pi05" in file else pi0()
    published = {
        key.replace("vision_tower.vision_model.", "vision_tower."): tuple(
            value["shape"] if isinstance(value, dict) else value
        )
        for key, value in listed.items()
        if not key.startswith(keymap.STATISTICS)
    }
    ours = torch_shapes(layout, config)
    assert {key: published.get(key) for key in ours} == ours
    assert published.keys() - ours.keys() <= {*layout.unused, layout.lm_head}


@pytest.mark.parametrize(("config", "name"), [(pi0(), "pi0"), (pi05(), "pi05")])
def test_the_leaves_are_those_of_the_official_tree(config: Pi0Config, name: str) -> None:
    published = json.loads((REFERENCE / f"openpi_{name}_params.json").read_text())["params"]
    assert leaf_shapes(config) == {k: tuple(v["shape"]) for k, v in published.items()}


@pytest.mark.parametrize("config", [TINY, tiny(), pi0(), tiny_pi05(), pi05()])
def test_the_leaves_are_those_of_our_model(config: Pi0Config) -> None:
    wanted = shapes_by_path(Pi0(config).shapes())
    assert wanted.pop("cond_embed") == (2, config.action.width)
    assert leaf_shapes(config) == wanted


def test_rearrange_splits_heads_as_rows_of_a_matrix() -> None:
    # Two heads of two rows each, three columns: head h, row e, column d is 6h + 3e + d.
    matrix = np.arange(12).reshape(4, 3)
    sizes = {"heads": 2, "head_dim": 2, "vlm": 3}
    turned = rearrange(matrix, "(heads head_dim) vlm", "heads vlm head_dim", sizes)
    assert turned.tolist() == [[[0, 3], [1, 4], [2, 5]], [[6, 9], [7, 10], [8, 11]]]


def test_rearrange_adds_an_axis_of_one() -> None:
    sizes = {"positions": 2, "vision": 3}
    turned = rearrange(np.zeros((2, 3)), "positions vision", "1 positions vision", sizes)
    assert turned.shape == (1, 2, 3)


@given(st.data())
def test_rearrange_is_its_own_inverse(data: st.DataObject) -> None:
    leaf = data.draw(st.sampled_from(LEAVES + PI05_LEAVES))
    tensor = data.draw(st.sampled_from(leaf.tensors))
    names = keymap.axis_names(tensor.axes)
    drawn = data.draw(st.lists(st.integers(1, 4), min_size=len(names), max_size=len(names)))
    sizes = dict(zip(names, drawn, strict=True))
    x = np.arange(np.prod(drawn)).reshape(shape(tensor.axes, sizes))
    there = rearrange(x, tensor.axes, leaf.part_axes, sizes)
    assert there.shape == shape(leaf.part_axes, sizes)
    np.testing.assert_array_equal(rearrange(there, leaf.part_axes, tensor.axes, sizes), x)


def test_groups_of_axes() -> None:
    assert groups("vlm (heads head_dim)") == ["vlm", "heads head_dim"]
    assert groups("(heads head_dim)") == ["heads head_dim"]


def test_the_majority_decides_a_size() -> None:
    shapes = [("a b", (2, 3)), ("b", (3,)), ("b a", (2, 3)), ("a", (2,))]
    assert vote(shapes) == {"a": 2, "b": 3}


def test_sizes_and_config_are_two_spellings_of_one_thing() -> None:
    for config in (TINY, pi0(), tiny(), pi05(), tiny_pi05()):
        settings = Settings(config.action_horizon, config.prompt_length, config.compute_dtype)
        assert config_from_sizes(axis_sizes(config), settings) == config


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(InputError, match="positions must be a square"):
        config_from_sizes(axis_sizes(TINY) | {"positions": 5}, Settings())
    with pytest.raises(InputError, match=r"modulation must be three times .* \(192\), got 191"):
        config_from_sizes(axis_sizes(tiny_pi05()) | {"modulation": 191}, Settings())


def test_a_prompt_length_that_no_file_says_is_the_published_models() -> None:
    for config, length in ((tiny(), 48), (tiny_pi05(), 200)):
        assert config_from_sizes(axis_sizes(config), Settings()).prompt_length == length
