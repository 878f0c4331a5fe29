"""Statistics: computed, applied, inverted, stored."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.data.normalize import (
    NormStats,
    Stats,
    compute_stats,
    load_norm_stats,
    quantile,
    save_norm_stats,
    undo_quantile,
    undo_z_score,
    z_score,
)
from pi0_jax.errors import InputError

STATS = Stats(
    mean=np.array([1.0, 10.0]),
    std=np.array([2.0, 0.5]),
    q01=np.array([0.0, 8.0]),
    q99=np.array([4.0, 12.0]),
)


def test_statistics_by_hand() -> None:
    # 0 ... 100: mean 50, the 1 % quantile is 1, the 99 % quantile 99.
    stats = compute_stats(np.arange(101.0)[:, None])
    assert stats.mean == [50.0] and stats.q01 == [1.0] and stats.q99 == [99.0]
    assert stats.std == pytest.approx(np.sqrt((101**2 - 1) / 12))


def test_a_floor_keeps_a_still_dimension_quiet() -> None:
    stats = compute_stats(np.ones((5, 1)), std_floor=0.1)
    assert (stats.std, stats.q01, stats.q99) == ([0.1], [0.9], [1.1])


def test_no_sample_and_nan_are_refused() -> None:
    for values in (np.zeros((0, 2)), np.array([[np.nan]])):
        with pytest.raises(InputError, match="finite samples"):
            compute_stats(values)


def test_z_score_and_quantile_by_hand() -> None:
    np.testing.assert_allclose(z_score(np.array([5.0, 9.0]), STATS), [2, -2], atol=1e-5)
    np.testing.assert_allclose(quantile(np.array([4.0, 8.0]), STATS), [1, -1], atol=1e-5)


def test_statistics_wider_than_the_data_are_cut() -> None:
    assert z_score(np.array([1.0]), STATS).tolist() == [0.0]


def test_statistics_narrower_than_the_data_are_refused() -> None:
    with pytest.raises(InputError, match="width 2 do not cover 3"):
        z_score(np.zeros(3), STATS)


def test_what_lies_beyond_the_statistics_passes_through_the_inverse() -> None:
    for undo in (undo_z_score, undo_quantile):
        assert undo(np.array([0.0, 0.0, 7.0]), STATS)[2] == pytest.approx(7.0)


def test_quantiles_must_be_there() -> None:
    with pytest.raises(InputError, match="needs q01 and q99"):
        quantile(np.zeros(2), Stats(STATS.mean, STATS.std))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=2))
def test_inverses(values: list[float]) -> None:
    x = np.array(values)
    np.testing.assert_allclose(undo_z_score(z_score(x, STATS), STATS), x, atol=1e-9)
    np.testing.assert_allclose(undo_quantile(quantile(x, STATS), STATS), x, atol=1e-9)


def test_a_file_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "deep/norm_stats.json"
    save_norm_stats(path, NormStats(STATS, Stats(STATS.mean, STATS.std)))
    found = load_norm_stats(path)
    np.testing.assert_array_equal(found.state.q99, STATS.q99)
    np.testing.assert_array_equal(found.actions.std, STATS.std)
    assert found.actions.q01 is None


BOTH = {name: {"mean": [0.0], "std": [1], "min": [0], "q01": None} for name in ("state", "actions")}


def test_what_is_beside_the_statistics_of_an_entry_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "norm_stats.json").write_text(json.dumps({"norm_stats": BOTH}))
    assert load_norm_stats(tmp_path / "norm_stats.json").state.mean.tolist() == [0.0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"state": {"mean": [0], "std": [1]}}, "actions"),
        (BOTH | {"state": {"mean": [0], "std": [1, 2]}}, "state: .* equally long"),
        (
            BOTH | {"state": {"mean": [0], "std": [float("nan")]}},
            r"state.std\[0\] is nan, exp",
        ),
        (BOTH | {"state": {"mean": 0, "std": [1]}}, "state.mean is 0, expected a list of numbers"),
        (BOTH | {"state": {"mean": [], "std": []}}, r"state.mean is \[\], expected a list of num"),
        (
            BOTH | {"state": {"mean": [True], "std": [1]}},
            r"state.mean\[0\] is True, exp",
        ),
        (BOTH | {"state": {"std": [1]}}, "state has no mean, found std"),
        (BOTH | {"state": 3}, "state is 3, expected an object"),
        (BOTH | {"image": {"mean": [0], "std": [1]}}, "norm_stats has image too, which"),
        (BOTH | {"state": {"mean": [0], "std": [1], "mask": [True]}}, "state has mask too, which"),
        (
            BOTH | {"state": {"mean": [1e39], "std": [1]}},
            r"mean has 1e\+39, which float32",
        ),
        ([], r"expected openpi's norm_stats.json: norm_stats is \[\]"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path: Path, entries: object, message: str) -> None:
    path = tmp_path / "norm_stats.json"
    path.write_text(json.dumps({"norm_stats": entries}))
    with pytest.raises(InputError, match=message):
        load_norm_stats(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; a policy needs its statistics"):
        load_norm_stats(tmp_path / "none.json")
