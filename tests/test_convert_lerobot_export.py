"""config.json and processors for lerobot, read again as lerobot's own are."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import ROBOT, TINY, random_stats
from lerobot_policies import names_of

from pi0_jax.convert.out import lerobot_export
from pi0_jax.convert.settings import lerobot_processors as names
from pi0_jax.convert.settings.torch_config import read_config
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.policy.spec import PolicySpec

PI0 = PolicySpec(TINY, ROBOT, execute_steps=4)
PI05 = dataclasses.replace(
    PI0, model=dataclasses.replace(TINY, pi05=True), quantile=True, state_in_prompt=True
)


def steps(folder: Path, file: str) -> list[str]:
    return names_of(json.loads((folder / file).read_text()))


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def test_a_pi0_without_relative_actions_is_read_by_every_lerobot_from_04_on(tmp_path: Path) -> None:
    lerobot_export.write(tmp_path, PI0, random_stats(), "float32")
    assert steps(tmp_path, names.PREPROCESSOR) == [
        "rename_observations_processor",
        "to_batch_processor",
        "pi0_new_line_processor",
        "tokenizer_processor",
        "device_processor",
        "normalizer_processor",
    ]
    assert steps(tmp_path, names.POSTPROCESSOR) == ["unnormalizer_processor", "device_processor"]
    assert "use_relative_actions" not in config(tmp_path)
    found = read_config(tmp_path)
    assert (found.cameras, found.state_dim, found.action_dim) == (("front", "wrist"), 4, 3)
    assert (found.action_space, found.prompt_length) == (AS_THE_ROBOT, TINY.prompt_length)


def test_relative_actions_as_lerobot_06_writes_them(tmp_path: Path) -> None:
    spec = dataclasses.replace(PI0, action_space=ActionSpace((True, True)))
    lerobot_export.write(tmp_path, spec, random_stats(), "float32")
    assert steps(tmp_path, names.PREPROCESSOR)[-2:] == [names.RELATIVE, names.NORMALIZER]
    assert steps(tmp_path, names.POSTPROCESSOR) == [
        names.UNNORMALIZER,
        names.ABSOLUTE,
        names.DEVICE,
    ]
    values = config(tmp_path)
    assert values["use_relative_actions"] is True
    assert values["relative_exclude_joints"] == ["action_2"]
    assert values["action_feature_names"] == ["action_0", "action_1", "action_2"]
    assert read_config(tmp_path).action_space == ActionSpace((True, True, False))


def test_a_pi05_writes_its_state_after_normalising(tmp_path: Path) -> None:
    lerobot_export.write(tmp_path, PI05, random_stats(), "float32")
    assert steps(tmp_path, names.PREPROCESSOR)[2:] == [
        "relative_actions_processor",
        "normalizer_processor",
        "pi05_prepare_state_tokenizer_processor_step",
        "tokenizer_processor",
        "device_processor",
    ]
    assert config(tmp_path)["use_relative_actions"] is False
    found = read_config(tmp_path)
    assert (found.pi05, found.padded_state_text, found.notes) == (True, False, ())
    assert found.normalization["ACTION"] == "QUANTILES"


def test_a_camera_must_not_be_called_as_one_that_is_not_there() -> None:
    robot = dataclasses.replace(ROBOT, cameras=("front", "empty_camera_0"))
    with pytest.raises(InputError, match="camera 'empty_camera_0', as lerobot calls one that is"):
        lerobot_export.check(dataclasses.replace(PI0, robot=robot))


def test_padded_statistics_are_cut_to_the_robots_width(tmp_path: Path) -> None:
    stats = random_stats(5, 5)
    padded = NormStats(*(Stats(s.mean, s.std) for s in (stats.state, stats.actions)))
    lerobot_export.write(tmp_path, PI0, padded, "float32")
    found = read_config(tmp_path).statistics
    assert found is not None and (len(found.state.mean), len(found.actions.std)) == (4, 3)


def test_lerobot_has_no_pi05_without_its_state() -> None:
    lerobot_export.check(PI05)
    with pytest.raises(InputError, match=r"reads no state.*use --layout openpi"):
        lerobot_export.check(dataclasses.replace(PI05, state_in_prompt=False))
