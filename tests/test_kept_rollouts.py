"""Rollouts of an interrupted iteration on disk: found again, whatever else lies beside them."""

from pathlib import Path

import numpy as np
import pytest
from tiny import episode

from pi0_jax.errors import InputError
from pi0_jax.rl.kept_rollouts import keep, kept

ONE, TWO = episode(2, [0], seed=1), episode(3, [0], seed=2)


def test_they_are_found_again(tmp_path: Path) -> None:
    assert kept(tmp_path / "none") == {}
    broken = episode(1, [0], seed=3, error="the method fell off")
    keep(tmp_path, {("lift", 1, 0): ONE, ("lift", 2, 11): TWO, ("lift", 3, 0): broken})
    for name in ("._lift_1_0.npz", "lift_1_0 (1).npz", ".DS_Store", "lift_1_0.npz~"):
        (tmp_path / name).write_bytes(b"PK")
    found = kept(tmp_path)
    assert found.keys() == {("scripted", 1, 0), ("scripted", 2, 11)}
    np.testing.assert_array_equal(found["scripted", 2, 11].actions, TWO.actions)


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "lift_1_0.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"lift_1_0\.npz"):
        kept(tmp_path)
