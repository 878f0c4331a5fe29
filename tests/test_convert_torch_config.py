"""config.json of every layout: which library wrote it, and whether the tensors agree."""

import dataclasses
import json
from pathlib import Path

import pytest
from checkpoints import GOLDENS, TINY

from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.settings.torch_config import check_model, read_config
from pi0_jax.errors import InputError

HERE = Path("checkpoint")


def test_openpis() -> None:
    found = read_config(GOLDENS / "tiny_pi0_torch_openpi")
    assert (found.action_horizon, found.sizes) == (50, {"action_dim": ("action_dim", 32)})


def test_openpis_unknown_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"action_horizon": 50, "rope_theta": 3}))
    with pytest.raises(InputError, match=r"rope_theta \(3\) is unknown"):
        read_config(tmp_path)


def test_without_a_config_nothing_is_declared(tmp_path: Path) -> None:
    assert read_config(tmp_path) == TorchConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[1]", r"expected a JSON object {...}, got \[1\]"),
        ('{"vlm_config": 3}', "vlm_config is 3, expected an object"),
        ('{"vlm_config": {"text_config": []}}', r"vlm_config.text_config is \[\], expected an obj"),
        ('{"dit_config": {"head_dim": "8"}}', "dit_config.head_dim is '8', expected a whole"),
        ('{"dit_config": {"rope_parameters": 1}}', "dit_config.rope_parameters is 1, expected an"),
        ('{"type": "pi0", "input_features": {"a": 3}}', "input_features is .*, expected an object"),
        ('{"type": "pi0", "input_features": {"a": {}}}', "input_features.a.type is missing"),
        ('{"action_horizon": 50, "action_horizon": 10}', "'action_horizon' is there twice"),
        ('{"action_horizon": 1e400}', "action_horizon is inf, expected a whole number"),
        ('{"pi05": "false"}', "pi05 is 'false', expected true or false"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(tmp_path)


def test_tensors_decide_and_the_config_must_agree() -> None:
    declared = TorchConfig(sizes={"image_resolution": ("image_size", 28)}, pi05=False)
    check_model(declared, TINY, HERE)
    with pytest.raises(InputError, match=r"says that this is a pi0.5, the tensors are a pi0"):
        check_model(dataclasses.replace(declared, pi05=True), TINY, HERE)
    wrong = dataclasses.replace(declared, sizes={"proj_width": ("action_width", 9)})
    with pytest.raises(InputError, match="proj_width is 9, the tensors have 8"):
        check_model(wrong, TINY, HERE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"action_horizon": "10"}, "action_horizon is '10', expected a whole number above 0"),
        ({"action_horizon": 0}, "action_horizon is 0, expected a whole number above 0"),
        ({"discrete_state_input": "no"}, "discrete_state_input is 'no', expected true or false"),
    ],
)
def test_openpis_values_have_their_types(tmp_path: Path, values: dict, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        read_config(tmp_path)


def test_a_pointer_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="a git-lfs pointer, not the file"):
        read_config(tmp_path)
