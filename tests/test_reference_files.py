"""A policy folder carries its reference: what differs is stored, and nothing else passes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import TINY, make_policy

from pi0_jax.errors import InputError
from pi0_jax.io.digests import DIGESTS
from pi0_jax.io.orbax_tree import load_tree, save_tree
from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.policy.folder import PolicyFolder, load_policy, open_policy, save_policy
from pi0_jax.policy.reference_files import read_reference
from pi0_jax.policy.reference_fit import with_reference

BYTES = dataclasses.replace(TINY, vocab_size=258)
OWN = ["action_out_proj/bias", "state_proj/kernel"]


def base_of(policy: PolicyFolder) -> PolicyFolder:
    """Two leaves are others; the rest are copies."""
    params = jax.tree.map(np.array, policy.params)
    for name in OWN:
        layer, kind = name.split("/")
        params[layer][kind] += 1
    return dataclasses.replace(policy, params=params)


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A policy folder with a reference."""
    policy = make_policy(tmp_path / "plain", BYTES, tokenizer="bytes")
    save_policy(tmp_path / "p", with_reference(policy, base_of(policy)), {})
    # As of an earlier version: what is refused here is refused without digests too.
    (tmp_path / "p" / DIGESTS).unlink()
    return tmp_path / "p"


def test_only_what_differs_is_stored_and_the_whole_is_read(carried: Path) -> None:
    stored = load_tree(carried / "reference/params")["params"]
    assert sorted(leaves_by_path(stored)) == OWN
    assert json.loads((carried / "reference/leaves.json").read_text())["leaves"] == OWN
    found = load_policy(carried)
    ours, theirs = leaves_by_path(found.params), leaves_by_path(found.reference)
    assert ours.keys() == theirs.keys()
    assert sorted(name for name in ours if ours[name] is not theirs[name]) == OWN
    for name in OWN:
        np.testing.assert_array_equal(theirs[name], ours[name] + 1)


def test_a_folder_without_one_is_as_before(carried: Path) -> None:
    plain = carried.with_name("plain")
    assert load_policy(plain).reference is None
    assert open_policy(plain).reference is None
    assert not (plain / "reference").exists()
    # The rest of a folder with one is the same, so older programs read it.
    names = {path.name for path in carried.iterdir()}
    assert names | {DIGESTS} == {path.name for path in plain.iterdir()} | {"reference"}
    assert (carried / "config.json").read_bytes() == (plain / "config.json").read_bytes()


def test_a_copy_takes_it_along(carried: Path) -> None:
    save_policy(carried.with_name("copy"), load_policy(carried), {})
    copied = load_policy(carried.with_name("copy"))
    np.testing.assert_array_equal(
        copied.reference["state_proj"]["kernel"], copied.params["state_proj"]["kernel"] + 1
    )


def test_shapes_are_read_without_values(carried: Path) -> None:
    found = open_policy(carried)
    leaves = jax.tree.leaves(found.reference)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def test_a_reference_that_is_the_policy_itself(carried: Path) -> None:
    plain = load_policy(carried.with_name("plain"))
    save_policy(carried.with_name("same"), with_reference(plain, plain), {})
    assert not (carried.with_name("same") / "reference/params").exists()
    found = load_policy(carried.with_name("same"))
    same = jax.tree.map(lambda a, b: a is b, found.params, found.reference)
    assert all(jax.tree.leaves(same))


def rewrite(carried: Path, **leaves: np.ndarray) -> None:
    """The stored leaves replaced by others; names have two underscores for a slash."""
    stored = carried / "reference/params"
    stored.rename(carried / "old")
    tree: dict[str, dict[str, np.ndarray]] = {}
    for name, values in leaves.items():
        layer, kind = name.split("__")
        tree.setdefault(layer, {})[kind] = values
    save_tree(stored, {"params": tree})


def test_leaves_that_do_not_fit_are_listed(carried: Path) -> None:
    bias = load_policy(carried).params["action_out_proj"]["bias"]
    rewrite(carried, action_out_proj__bias=bias, state_proj__bias=bias)
    with pytest.raises(InputError) as error:
        load_policy(carried)
    assert "reference: 2 problems: missing state_proj/kernel, shape [5, 8]" in str(error.value)
    assert "unexpected state_proj/bias, shape [5]" in str(error.value)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (np.ones(6, np.float32), r"action_out_proj/bias: expected shape \[5\], got shape \[6\]"),
        (np.ones(5, np.int32), "action_out_proj/bias: expected dtype float32 or bfloat16"),
        (np.full(5, np.nan, np.float32), "action_out_proj/bias: NaN or infinity"),
    ],
)
def test_a_leaf_of_another_kind(carried: Path, bias: np.ndarray, message: str) -> None:
    rewrite(carried, action_out_proj__bias=bias, state_proj__kernel=np.ones((5, 8), np.float32))
    with pytest.raises(InputError, match=f"p/reference: 1 problem: {message}"):
        load_policy(carried)


def test_no_value_is_read_before_its_shape_has_been_checked(carried: Path) -> None:
    """An array of zeros takes few bytes on the disk, whatever shape it declares."""
    policy = load_policy(carried)
    rewrite(
        carried,
        action_out_proj__bias=np.ones(6, np.float32),
        state_proj__kernel=np.ones((5, 8), np.float32),
    )
    read: list[Path] = []

    def load(path: Path) -> Any:
        read.append(path)
        return load_tree(path)

    with pytest.raises(InputError, match=r"bias: expected shape \[5\], got shape \[6\]"):
        read_reference(carried, policy.params, load)
    assert read == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "leaves.json: expected the list of a reference's leaves, got FileNotFoundError"),
        ("{", "leaves.json: expected the list"),
        ("[]", "leaves.json: expected the list"),
        ('{"leaves": []}', "leaves.json: expected the list of a reference's leaves, got KeyError"),
        ('{"format_version": 2, "leaves": []}', "expected a list of format 1, got 2"),
        ('{"format_version": 1, "leaves": ["who"]}', "who: the policy has no such leaf"),
        ('{"format_version": 1, "leaves": []}', "unexpected state_proj/kernel"),
    ],
)
def test_a_spoilt_list(carried: Path, text: str | None, message: str) -> None:
    file = carried / "reference/leaves.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_policy(carried)


def test_lost_leaves_are_missing(carried: Path) -> None:
    (carried / "reference/params").rename(carried / "gone")
    with pytest.raises(InputError, match="2 problems: missing action_out_proj/bias"):
        load_policy(carried)
