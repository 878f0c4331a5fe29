"""State files of lerobot's normalising steps: no statistic is dropped without a reason."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pi0_jax.convert.settings.lerobot_state_file import read_state_file
from pi0_jax.errors import InputError

ONE = np.ones(1, np.float32)
STATE_MEAN = "observation.state.mean"


def write(path: Path, *names: str) -> Path:
    """A file with the mean of a state, and more tensors."""
    save_file({STATE_MEAN: 2 * ONE, **dict.fromkeys(names, ONE)}, path / "step.safetensors")
    return path / "step.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        *("observation.images.top.mean", "front.std", "observation.image.q50"),
        *("observation.state.min", "action.max", "action.count", "action.q10", "action.q90"),
        *("timestamp.mean", "frame_index.max", "episode_index.min", "task_index.std", "index.q99"),
        *("next.reward.mean", "observation.environment_state.mean", "action.gripper.mean"),
        "observation.state.joint_position.mean",
    ],
)
def test_what_changes_nothing_is_known(name: str, tmp_path: Path) -> None:
    found = read_state_file(write(tmp_path, name), ["front"])
    assert {key: values.tolist() for key, values in found.items()} == {STATE_MEAN: [2.0]}


@pytest.mark.parametrize(
    "name", ["foo.mean", "mean", "state.mean", "observation.state.scale", "actions.std", "top.mean"]
)
def test_anything_else_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    with pytest.raises(InputError, match=rf"step\.safetensors: {name} may be statistics that"):
        read_state_file(path, ["front"])


def test_only_what_is_read_must_be_of_real_numbers(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    save_file({"action.std": ONE, "action.count": np.array([3])}, path)
    assert read_state_file(path, []).keys() == {"action.std"}
    save_file({"action.std": np.array([3])}, path)
    with pytest.raises(InputError, match=r"action\.std is int64, expected float32"):
        read_state_file(path, [])
