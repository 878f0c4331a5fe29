"""Names of parameters, and which arrays a batch hands to the device."""

import jax

from pi0_jax.testing import batch
from pi0_jax.types import path_name


def test_the_path_of_a_parameter_is_written_with_slashes():
    tree = {"PaliGemma": {"llm": {"layers": [{"w": 1.0}]}}, "state_proj": {"bias": 2.0}}
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    assert names == ["PaliGemma/llm/layers/0/w", "state_proj/bias"]


def test_a_batch_with_one_prompt_has_no_leaf_for_another():
    windows = batch(3)
    shapes = [leaf.shape for leaf in jax.tree.leaves(windows)]
    assert shapes == [(3, 2, 16, 16, 3), (3, 2), (3, 8), (3, 16), (3, 16), (3, 4, 8), (3, 4), (3,)]
    told = windows.replace(uncond_prompt=windows.obs.prompt)
    assert len(jax.tree.leaves(told)) == len(shapes) + 1
