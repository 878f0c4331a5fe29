"""The policy folder: what is written is what is read, and nothing else passes."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoints import TINY, make_policy

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.tokenizer import ByteTokenizer
from pi0_jax.errors import InputError
from pi0_jax.io.digests import DIGESTS, write_digests
from pi0_jax.io.tree_check import shapes_by_path
from pi0_jax.policy.folder import (
    TOKENIZER_FILE,
    init_policy,
    load_policy,
    open_policy,
    param_count,
    save_policy,
)

BYTES = dataclasses.replace(TINY, vocab_size=258)
"""Room for every byte."""


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    policy = make_policy(
        tmp_path / "p",
        BYTES,
        action_space=ActionSpace((True, True)),
        quantile=True,
        tokenizer="bytes",
    )
    found = load_policy(tmp_path / "p")
    assert found.spec == policy.spec
    same = jax.tree.map(np.array_equal, found.params, policy.params)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(found.stats.state.q01, policy.stats.state.q01)
    transforms = found.transforms
    assert transforms.action_space.delta_mask == (True, True) and transforms.quantile
    assert isinstance(transforms.tokenizer, ByteTokenizer)
    assert json.loads((tmp_path / "p/manifest.json").read_text()) == {"made_by": "a test"}


def test_a_folder_of_before_there_were_conditions(tmp_path: Path) -> None:
    make_policy(tmp_path / "p", BYTES, tokenizer="bytes")
    config = tmp_path / "p/config.json"
    (tmp_path / "p" / DIGESTS).unlink()
    values = json.loads(config.read_text())
    assert values.pop("branch_mode") == "embedding"
    config.write_text(json.dumps(values))
    assert load_policy(tmp_path / "p").spec.branch_mode == "embedding"
    config.write_text(json.dumps(values | {"branch_mode": "text_indicator"}))
    assert load_policy(tmp_path / "p").transforms.branch_mode == "text_indicator"
    config.write_text(json.dumps(values | {"branch_mode": "words"}))
    with pytest.raises(InputError, match=r"branch_mode must be one of 'embedding', .* got 'words'"):
        load_policy(tmp_path / "p")


def test_a_copy_takes_its_tokenizer_along(tmp_path: Path) -> None:
    make_policy(tmp_path / "p")
    (tmp_path / "p" / TOKENIZER_FILE).write_bytes(b"pieces")
    save_policy(tmp_path / "q", load_policy(tmp_path / "p"), {})
    assert (tmp_path / "q" / TOKENIZER_FILE).read_bytes() == b"pieces"


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p")
    with pytest.raises(InputError, match="exists already"):
        save_policy(tmp_path / "p", policy, {})


def test_parameters_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p")
    params = dict(policy.params)
    params["state_proj"] = {"kernel": np.full((5, 9), np.nan, np.float32), "extra": np.ones(1)}
    save_policy(tmp_path / "q", dataclasses.replace(policy, params=params), {})
    with pytest.raises(InputError) as error:
        load_policy(tmp_path / "q")
    for text in (
        "q: 3 problems: ",
        "missing state_proj/bias, shape [8]",
        "unexpected state_proj/extra, shape [1]",
        "state_proj/kernel: expected shape [5, 8], got shape [5, 9]",
    ):
        assert text in str(error.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a policy folder"):
        load_policy(tmp_path / "none")


def test_a_fresh_policy_has_the_models_shapes_and_no_condition(tmp_path: Path) -> None:
    there = make_policy(tmp_path / "p", tokenizer="bytes")
    policy = init_policy(there.spec, there.stats, seed=0)
    assert shapes_by_path(policy.params) == shapes_by_path(load_policy(tmp_path / "p").params)
    assert not policy.params["cond_embed"].any()


def test_parameters_are_counted() -> None:
    assert param_count({"a": {"b": np.ones((2, 3))}, "c": np.array([np.inf])}) == 7


def test_a_policy_is_opened_without_its_weights(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", tokenizer="bytes")
    found = open_policy(tmp_path / "p")
    assert (found.spec, found.path) == (policy.spec, tmp_path / "p")
    assert shapes_by_path(found.params) == shapes_by_path(policy.params)
    leaves = jax.tree.leaves(found.params)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    np.testing.assert_array_equal(found.stats.state.mean, policy.stats.state.mean)
    file = tmp_path / "p/config.json"
    file.write_text(file.read_text().replace('"vocab_size": 40', '"vocab_size": 41'))
    with pytest.raises(InputError, match=r"p: damaged, or changed since it was written: config"):
        open_policy(tmp_path / "p")
    write_digests(tmp_path / "p")
    with pytest.raises(InputError, match=r"input_embedding: expected shape \[41, 16\], got shape"):
        open_policy(tmp_path / "p")


def test_a_policy_is_shown_without_its_numbers(tmp_path: Path) -> None:
    text = repr(make_policy(tmp_path / "p", tokenizer="bytes"))
    assert "array" not in text.split("stats=")[0] and "Robot" in text
