"""Where two policies differ."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import policy_folder

from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.policy.compare import difference, same_bits, same_policy


def test_a_policy_is_the_same_as_long_as_nothing_of_it_changes(blind_params):
    plain = policy_folder(blind_params)
    assert same_policy(plain, policy_folder(blind_params))
    mean = plain.stats.state.mean + 1e-6
    state = dataclasses.replace(plain.stats.state, mean=mean)
    others = {
        "spec": dataclasses.replace(plain.spec, execute_steps=1 + plain.spec.execute_steps % 2),
        "stats": dataclasses.replace(plain.stats, state=state),
        "reference": plain.params,
    }
    for name, value in others.items():
        assert not same_policy(plain, dataclasses.replace(plain, **{name: value})), name


def test_one_bit_of_one_leaf_is_a_difference(blind_params):
    plain, other = policy_folder(blind_params), policy_folder(_with_one_bit(blind_params))
    assert not same_policy(plain, other)


def _with_one_bit(params):
    changed = jax.tree.map(lambda x: np.array(x), params)
    last = list(leaves_by_path(changed).values())[-1]
    last.reshape(-1).view("u1")[-1] ^= 1
    return changed


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (1, 1, ""),
        (1, 2, "it is 2, the policy's 1"),
        (np.zeros(2), np.zeros(2), ""),
        (np.zeros(2), np.ones(2), "it is another than the policy's"),
        ("a" * 70, "b" * 70, "it is another than the policy's"),
    ],
)
def test_a_difference_is_named_and_long_values_are_not_shown(ours, theirs, expected):
    assert difference("it", ours, theirs) == expected


def test_leaves_are_compared_by_their_bits():
    nan = np.array([np.nan, 1.0])
    assert same_bits(nan, nan.copy())
    assert not same_bits(np.array([0.0]), np.array([-0.0]))
    assert not same_bits(np.zeros(2, np.float32), np.zeros(2, np.int32))
