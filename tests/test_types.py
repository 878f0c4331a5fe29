"""Device values travel through jit as trees and cannot be changed in place."""

import dataclasses

import chex
import jax
import pytest
from tiny import batch


def test_a_batch_is_a_tree_of_its_arrays():
    windows = batch(3)
    shapes = [leaf.shape for leaf in jax.tree.leaves(windows)]
    assert shapes == [(3, 2, 16, 16, 3), (3, 2), (3, 8), (3, 16), (3, 16), (3, 4, 8), (3, 4), (3,)]
    chex.assert_trees_all_equal(jax.jit(lambda tree: tree)(windows), windows)


def test_values_are_frozen():
    windows = batch(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        windows.weight = None
    changed = windows.replace(obs=windows.obs.replace(state=windows.obs.state + 1))
    assert changed.obs.state[0, 0] == windows.obs.state[0, 0] + 1
    assert changed.actions is windows.actions
