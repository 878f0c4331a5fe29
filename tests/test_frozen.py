"""What a checkpoint leaves out, and how it is known again."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pi0_jax.training import frozen
from pi0_jax.training.frozen import NOTHING, Frozen, left_out

PARAMS = {"tower": {"w": np.arange(6.0), "b": np.float32(2)}, "head": np.ones(2)}
RULES = (("tower/.*", 0.0),)


def test_the_frozen_leaves_of_a_policy_in_the_run_are_left_out():
    run = Path("/runs/one")
    found = left_out(PARAMS, RULES, run / "base", run)
    assert {path: leaf.tolist() for path, leaf in found.leaves.items()} == {
        "tower/w": [0, 1, 2, 3, 4, 5],
        "tower/b": 2,
    }
    assert left_out(PARAMS, (), run / "base", run).leaves == {}


@pytest.mark.parametrize("home", [None, Path("/given"), Path("/runs/one/../other")])
def test_nothing_is_left_out_that_may_be_gone_on_resume(home):
    assert left_out(PARAMS, RULES, home, Path("/runs/one")) is NOTHING


def test_the_digest_is_that_of_names_kinds_and_values():
    """By hand: a line for each leaf, then the SHA-256 of its bytes."""
    text = b"b float32 ()\n" + hashlib.sha256(np.float32(2).tobytes()).digest()
    text += b"w float64 (2,)\n" + hashlib.sha256(np.arange(2.0).tobytes()).digest()
    whole = Frozen({"w": np.arange(2.0), "b": np.float32(2)})
    assert whole.digest == hashlib.sha256(text).hexdigest()
    others = [
        {"w": np.arange(2.0), "c": np.float32(2)},
        {"w": np.arange(2.0), "b": np.float32(2.5)},
        {"w": np.arange(2.0), "b": np.int32(2)},
        {"w": np.arange(2.0)[None], "b": np.float32(2)},
        {"w": np.arange(2.0), "b": ml_dtypes.bfloat16(2)},
    ]
    assert len({whole.digest, *(Frozen(one).digest for one in others)}) == 6


def test_a_large_leaf_is_digested_in_blocks(monkeypatch):
    leaf = np.arange(10, dtype=np.uint8)
    monkeypatch.setattr(frozen, "_BLOCK", 4)
    parts = [hashlib.sha256(bytes(part)).digest() for part in (leaf[:4], leaf[4:8], leaf[8:])]
    text = b"x uint8 (10,)\n" + b"".join(parts)
    assert Frozen({"x": leaf}).digest == hashlib.sha256(text).hexdigest()
