"""Statistics from every place where a layout keeps them."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkpoints import GOLDENS, NORM_STATS, TorchGolden, random_stats

from pi0_jax.convert import statistics
from pi0_jax.convert.safetensors_file import write_small
from pi0_jax.convert.torch_config import TorchConfig, read_config
from pi0_jax.convert.torch_source import TorchSource
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
        shapes={k: v.shape for k, v in values.items()}, read=values.get, files=[Path("x")]
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
        ("normalize_inputs.buffer_observation_images_top.mean", np.ones(3), "statistics of images"),
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


def processors(folder: Path, action_mean: float = 0.0) -> None:
    """The processor files of lerobot 0.4."""
    for name, step, mean in (
        (statistics.PREPROCESSOR, statistics.NORMALIZER, 0.0),
        (statistics.POSTPROCESSOR, statistics.UNNORMALIZER, action_mean),
    ):
        steps = [{"registry_name": "other"}, {"registry_name": step, "state_file": f"{step}.st"}]
        (folder / name).write_text(json.dumps({"steps": steps}))
        tensors = {
            "observation.state.mean": np.zeros(4, np.float32),
            "observation.state.std": np.ones(4, np.float32),
            "action.mean": np.full(3, mean, np.float32),
            "action.std": np.ones(3, np.float32),
            "action.count": np.ones(1, np.float32),
        }
        write_small(folder / f"{step}.st", tensors)


def test_new_lerobot_keeps_them_in_processor_files(tmp_path: Path) -> None:
    processors(tmp_path)
    found = statistics.from_processors(tmp_path, MODES, "robot")
    assert found is not None and found.asset_id == "robot"
    assert found.stats.state.std.tolist() == [1, 1, 1, 1]
    assert found.stats.actions.q01 is None


def test_processors_that_disagree_or_lack_a_file(tmp_path: Path) -> None:
    processors(tmp_path, action_mean=1.0)
    with pytest.raises(InputError, match="differ between input and output"):
        statistics.from_processors(tmp_path, MODES, None)
    (tmp_path / f"{statistics.NORMALIZER}.st").unlink()
    with pytest.raises(InputError, match="with its state_file"):
        statistics.from_processors(tmp_path, MODES, None)


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


def test_no_place_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --norm-stats FILE"):
        statistics.first([lambda: None, lambda: None], tmp_path)


def padded(stats: Stats, width: int) -> Stats:
    extra = width - len(stats.mean)
    return Stats(np.pad(stats.mean, (0, extra)), np.pad(stats.std, (0, extra)))


def test_zero_padding_is_no_part_of_the_robot() -> None:
    stats = random_stats(4, 3)
    assert statistics.own_width(stats.actions) == 3
    assert statistics.own_width(padded(stats.actions, 32)) == 3
    # A real dimension that never moves still has a mean.
    assert statistics.own_width(Stats(np.array([1.0, 2.0]), np.array([1.0, 0.0]))) == 2


def test_widths() -> None:
    stats = random_stats(4, 3)
    wide = NormStats(padded(stats.state, 32), padded(stats.actions, 32))
    declared = TorchConfig(state_dim=4, action_dim=3)
    for each in (stats, wide):
        statistics.check_widths(statistics.FoundStats(each, "a", "file"), declared, 32)
    with pytest.raises(InputError, match="file: statistics of state are 32 wide, the model takes"):
        statistics.check_widths(statistics.FoundStats(wide, "a", "file"), declared, 16)
    for wrong in (2, 5):
        with pytest.raises(InputError, match=f"actions are 3 wide, .* declares {wrong}"):
            statistics.check_widths(
                statistics.FoundStats(stats, "a", "file"),
                dataclasses.replace(declared, action_dim=wrong),
                32,
            )


def test_configs_of_the_layouts() -> None:
    lerobot = read_config(GOLDENS / "tiny_pi0_torch_lerobot_new")
    assert lerobot.cameras == ("image", "image2")
    assert (lerobot.state_dim, lerobot.action_dim, lerobot.execute_steps) == (8, 7, 50)
    transformers = read_config(GOLDENS / "tiny_pi0_torch_transformers")
    assert transformers.heads == (8, 1, 4)
    assert transformers.depths == {"depth": 2, "vision_depth": 2}
    assert read_config(GOLDENS / "tiny_pi0_torch_openpi").action_horizon == 50


def test_a_spoilt_config_is_named(tmp_path: Path) -> None:
    assert read_config(tmp_path) == TorchConfig()
    for text in ("{", '{"vlm_config": 3}', '{"input_features": {"observation.state": {"a": 1}}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="cannot read this config"):
            read_config(tmp_path)


def test_cameras_that_the_robot_lacks_are_left_out(tmp_path: Path) -> None:
    names = ("observation.images.top", "observation.images.empty_camera_0")
    features = {name: {"type": "VISUAL", "shape": [3, 8, 8]} for name in names}
    (tmp_path / "config.json").write_text(json.dumps({"input_features": features}))
    assert read_config(tmp_path).cameras == ("top",)
