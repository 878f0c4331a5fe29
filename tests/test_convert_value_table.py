"""Distributions of parameters: by hand, in blocks, in every layout alike."""

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from checkpoints import TINY, make_torch

from pi0_jax.convert.compare import value_table
from pi0_jax.convert.compare.value_table import Distribution, distribution, distributions
from pi0_jax.convert.sources.open_checkpoint import open_any


def test_by_hand() -> None:
    found = distribution(np.array([[0.0, 2.0], [-4.0, 0.0]], np.float32))
    assert found == Distribution(4, -4.0, 2.0, total=-2.0, squares=20.0, zeros=2, not_finite=0)
    # Mean -0.5; 20/4 - 0.25 = 4.75.
    assert (found.mean, found.std) == (-0.5, pytest.approx(4.75**0.5))


def test_what_is_not_finite_is_counted_apart() -> None:
    values = np.array([np.nan, 1.0, np.inf, 3.0], ml_dtypes.bfloat16)
    found = distribution(values)
    assert (found.count, found.not_finite, found.low, found.high) == (2, 2, 1.0, 3.0)
    assert (found.mean, found.std) == (2.0, 1.0)
    nothing = distribution(np.full(3, np.nan))
    assert nothing.not_finite == 3 and np.isnan(nothing.mean) and np.isnan(nothing.std)


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(3.0, 0.01, (7, 11)).astype(np.float32)
    whole = distribution(values)
    monkeypatch.setattr(value_table, "_BLOCK", 10)
    parts = distribution(values)
    assert (parts.count, parts.low, parts.high) == (77, whole.low, whole.high)
    assert parts.mean == pytest.approx(values.mean(), rel=1e-6)
    assert parts.std == pytest.approx(values.std(), rel=1e-3)


def test_layouts_have_the_same_distributions(tmp_path: Path) -> None:
    torch = open_any(make_torch(tmp_path, "openpi", dataclasses.replace(TINY, pi05=True)))
    ours = dict(distributions(open_any(tmp_path / "policy"), "ours"))
    theirs = dict(distributions(torch, "theirs"))
    # Only a policy folder has the condition, and it is untrained.
    condition = ours.pop("cond_embed")
    assert condition.zeros == condition.count == 2 * 8
    assert ours.keys() == theirs.keys()
    for path, one in ours.items():
        other = theirs[path]
        assert (one.count, one.low, one.high) == (other.count, other.low, other.high), path
        assert one.mean == pytest.approx(other.mean, abs=1e-9), path
        # `random_params` draws from N(0, 0.2).
        assert one.count < 100 or one.std == pytest.approx(0.2, rel=0.3), path
