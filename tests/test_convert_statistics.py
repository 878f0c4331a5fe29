"""Statistics from every place where a layout keeps them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkpoints import NORM_STATS, TorchGolden, random_stats

from pi0_jax.convert.into import statistics
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.data.normalize import NormStats, Stats, load_norm_stats, save_norm_stats
from pi0_jax.errors import InputError

MODES = TorchConfig(normalization={"STATE": "MEAN_STD", "ACTION": "MEAN_STD"})


def old_tensors(**changes: np.ndarray) -> Any:
    """What lerobot 0.1-0.3 keeps among the weights."""
    values = {
        "normalize_inputs.buffer_observation_state.mean": np.zeros(4, np.float32),
        "normalize_inputs.buffer_observation_state.std": np.ones(4, np.float32),
        "normalize_targets.buffer_action.mean": np.full(3, 2, np.float32),
        "normalize_targets.buffer_action.std": np.full(3, 5, np.float32),
        "unnormalize_outputs.buffer_action.mean": np.full(3, 2, np.float32),
        "unnormalize_outputs.buffer_action.std": np.full(3, 5, np.float32),
        "state_proj.bias": np.zeros(8, np.float32),
        **changes,
    }
    return SimpleNamespace(
        shapes={k: v.shape for k, v in values.items()},
        dtypes={k: v.dtype.name for k, v in values.items()},
        read=values.get,
        files=[Path("x")],
    )


def test_old_lerobot_keeps_them_among_the_weights() -> None:
    found = statistics.from_tensors(old_tensors(), MODES, None)
    assert found is not None
    assert found.stats.actions.std.tolist() == [5, 5, 5]
    assert found.stats.state.mean.tolist() == [0, 0, 0, 0]
    assert (found.asset_id, found.quantile) == ("default", False)


def test_a_checkpoint_without_them_goes_on_to_the_next_place() -> None:
    nothing = SimpleNamespace(shapes={"state_proj.bias": (8,)}, files=[Path("x")])
    assert statistics.from_tensors(nothing, MODES, None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("unnormalize_outputs.buffer_action.std", np.full(3, np.inf), "never set"),
        ("unnormalize_outputs.buffer_action.mean", np.full(3, 9.0), "differ between input"),
        ("unnormalize_outputs.buffer_action.std", np.ones(2), "different widths"),
        ("unnormalize_outputs.buffer_action.std", -np.ones(3), "dimension 0 is negative"),
        (
            "normalize_inputs.so100_buffer_action.std",
            np.ones(3),
            r"several data sets by name \(so100",
        ),
        ("normalize_inputs.buffer_observation_images_top.mean", np.ones(3), "statistics of images"),
        ("unnormalize_outputs.buffer_action.scale", np.ones(3), "something else than .*scale"),
        ("unnormalize_outputs.buffer_action.std", np.ones(3, int), "action.std is int64, expected"),
    ],
)
def test_contradictions_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        statistics.from_tensors(old_tensors(**{name: value}), MODES, None)


def test_other_normalisations_are_refused() -> None:
    config = TorchConfig(normalization={"STATE": "MEAN_STD", "ACTION": "IDENTITY"})
    with pytest.raises(InputError, match=r"\['IDENTITY', 'MEAN_STD'\] of state and actions"):
        statistics.from_tensors(old_tensors(), config, None)


def test_quantile_normalisation_is_recorded() -> None:
    config = TorchConfig(normalization={"STATE": "QUANTILES", "ACTION": "QUANTILES"})
    found = statistics.from_tensors(old_tensors(), config, None)
    assert found is not None and found.quantile


@pytest.mark.parametrize("version", ["old", "old_tf452"])
def test_goldens_of_old_lerobot(torch_golden: TorchGolden, version: str) -> None:
    source = TorchSource(torch_golden(f"tiny_pi0_torch_lerobot_{version}"))
    found = statistics.from_tensors(source.tensors, source.config, None)
    assert found is not None
    np.testing.assert_allclose(
        found.stats.actions.mean, load_norm_stats(NORM_STATS).actions.mean, rtol=1e-6
    )


def test_assets(tmp_path: Path) -> None:
    assert statistics.from_assets(tmp_path, None) is None
    save_norm_stats(tmp_path / "assets/org/robot/norm_stats.json", random_stats())
    found = statistics.from_assets(tmp_path, None)
    assert found is not None and found.asset_id == "org/robot"


def test_rlinf_keeps_them_beside_the_weights(tmp_path: Path) -> None:
    save_norm_stats(tmp_path / "physical-intelligence/libero/norm_stats.json", random_stats())
    found = statistics.from_assets(tmp_path, None)
    assert found is not None and found.asset_id == "physical-intelligence/libero"
    save_norm_stats(tmp_path / "assets/droid/norm_stats.json", random_stats())
    with pytest.raises(InputError, match=r"--asset-id physical-intelligence/libero \| droid"):
        statistics.from_assets(tmp_path, None)


def test_a_file_of_the_user_is_normalised_as_the_checkpoint_says(tmp_path: Path) -> None:
    save_norm_stats(tmp_path / "org/robot/norm_stats.json", random_stats())
    file = tmp_path / "org/robot/norm_stats.json"
    assert statistics.from_file(file, None).quantile is None
    quantiles = TorchConfig(normalization={"STATE": "QUANTILES", "ACTION": "QUANTILES"})
    assert statistics.from_file(file, "mine", quantiles).quantile is True
    with pytest.raises(
        InputError, match=r"takes a file and this is a folder; there is .*norm_stats"
    ):
        statistics.from_file(tmp_path, None)


def test_no_place_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --norm-stats FILE"):
        statistics.only([lambda: None, lambda: None], tmp_path)


def found(stats: NormStats, where: str) -> statistics.FoundStats:
    return statistics.FoundStats(stats, "robot", where)


def test_two_places_must_say_the_same(tmp_path: Path) -> None:
    stats = random_stats(4, 3)
    # As one place may have it: rounded to float32, zero-padded, without quantiles.
    short = Stats(np.float32(stats.state.mean), np.float32(stats.state.std))
    wide = Stats(np.pad(stats.actions.mean, (0, 2)), np.pad(stats.actions.std, (0, 2)))
    same = found(NormStats(short, wide), "assets")
    assert statistics.only([lambda: found(stats, "a"), lambda: same], tmp_path).where == "a"
    moved = found(NormStats(Stats(stats.state.mean + 0.1, stats.state.std), wide), "assets")
    with pytest.raises(InputError, match="different statistics in a and in assets"):
        statistics.only([lambda: found(stats, "a"), lambda: moved], tmp_path)
