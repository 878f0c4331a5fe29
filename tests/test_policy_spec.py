"""What a config.json says is what is read, of each version, and nothing else passes."""

import dataclasses
import json
from pathlib import Path

import pytest
from checkpoints import TINY, make_policy, random_stats

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import describe
from pi0_jax.policy.spec import PolicySpec, load_spec
from pi0_jax.robot import Robot, numbered


def robot(actions: int = 3, cameras: tuple[str, ...] = ("front",), **rest: object) -> Robot:
    return Robot("test", cameras, numbered("state", 4), numbered("action", actions), **rest)


def spec(**changes: object) -> PolicySpec:
    base = PolicySpec(TINY, robot(), 4, tokenizer="bytes")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_only_a_state_in_the_prompt_can_be_padded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="padded_state_text needs state_in_prompt"):
        make_policy(tmp_path / "p", padded_state_text=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: expected JSON"),
        ('{"format_version": 9}', "expected format 3, got 9"),
        ("{}", "expected a policy folder's config.json, 'format_version' is missing"),
        ("[]", "expected a JSON object"),
        ('{"format_version": "3"}', "expected format 3, got '3'"),
        ('{"format_version": 3, "model": {"depth": 2}}', "config.json, 'robot' is missing"),
        ('{"format_version": 2, "model": 3}', "config key robot is missing"),
    ],
)
def test_a_spoilt_config(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_spec(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("quantile", "false", "config.json: .* key quantile must be True or False, got 'false'"),
        ("state_in_prompt", 1, "key state_in_prompt must be True or False, got 1"),
        ("tokenizer", "gpt2", "policy.tokenizer must be one of 'bytes', 'paligemma', got 'gpt2'"),
        ("tokenizer", None, "key tokenizer must be a word, got None"),
        ("asset_id", "../../x", "asset_id must be a name such as org/robot, got '../../x'"),
        ("execute_steps", 1.5, "key execute_steps must be a whole number, got 1.5"),
        ("execute_steps", True, "key execute_steps must be a whole number, got True"),
        ("twist", 1, "unknown config key twist"),
        ("model.pi05", "x", "key model.pi05 must be True or False, got 'x'"),
        ("model.depth", 2.0, "key model.depth must be a whole number, got 2.0"),
        ("model.vision.width", [3], r"key model.vision.width must be a whole number, got \[3\]"),
        ("action_space.delta_mask", [0], "key action_space.delta_mask.0 must be True or False"),
        ("robot.control_hz", "20", "key robot.control_hz must be a number, got '20'"),
        ("robot.control_hz", 0, "control_hz must be above 0, got 0.0"),
        ("robot.cameras", ["front", 3], "key robot.cameras.1 must be a word, got 3"),
        ("robot.cameras", ["front", ""], "every camera needs its own name"),
        ("robot.state", {}, r"key robot.state must be a list, got \{\}"),
    ],
)
def test_a_value_of_another_kind_is_named(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    config = folder_to_edit(tmp_path)
    values = json.loads(config.read_text())
    *sections, name = key.split(".")
    part = values
    for section in sections:
        part = part[section]
    part[name] = value
    config.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        load_spec(tmp_path)


def folder_to_edit(folder: Path) -> Path:
    """The config.json of a policy without weights."""
    describe(folder, spec(), random_stats(), {}, None)
    return folder / "config.json"


@pytest.mark.parametrize("key", ["quantile", "state_in_prompt", "model.prompt_length"])
def test_a_default_would_be_another_policy(tmp_path: Path, key: str) -> None:
    config = folder_to_edit(tmp_path)
    values = json.loads(config.read_text())
    section, _, name = key.rpartition(".")
    del (values[section] if section else values)[name]
    config.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"config.json, '{key}' is missing"):
        load_spec(tmp_path)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(InputError, match="between 1 and the action horizon 7, got 8"):
        spec(execute_steps=8)
    with pytest.raises(InputError, match="the robot has 6 actions, the model takes 5"):
        spec(robot=robot(6))


def test_a_folder_of_version_1_is_read(tmp_path: Path) -> None:
    """It named three cameras and counted actions; the right wrist was always masked."""
    policy = make_policy(tmp_path / "p", tokenizer="bytes")
    config = tmp_path / "p/config.json"
    values = json.loads(config.read_text())
    del values["robot"], values["branch_mode"], values["action_space"]
    old = {"format_version": 1, "action_dim": 3, "delta_dims": 2, "condition": "prompt_dropout"}
    cameras = ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]
    config.write_text(json.dumps(values | old | {"cameras": cameras}))
    found = load_spec(tmp_path / "p")
    assert found.branch_mode == "prompt_dropout"
    assert found.action_space == ActionSpace((True, True))
    assert (found.model, found.execute_steps) == (policy.spec.model, policy.spec.execute_steps)
    assert found.robot.cameras == ("base_0_rgb", "left_wrist_0_rgb")
    assert found.robot.masked_cameras == ("right_wrist_0_rgb",)
    assert (len(found.robot.state), len(found.robot.actions)) == (4, 3)


def test_a_folder_of_version_2_counted_its_relative_actions(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", tokenizer="bytes")
    config = tmp_path / "p/config.json"
    values = json.loads(config.read_text())
    del values["action_space"]
    config.write_text(json.dumps(values | {"format_version": 2, "delta_dims": 1}))
    assert load_spec(tmp_path / "p").action_space == ActionSpace((True,))
    assert load_spec(tmp_path / "p").robot == policy.spec.robot


@pytest.mark.parametrize(
    ("version", "key", "value", "message"),
    [
        (2, "delta_dims", "6", "key delta_dims must be a whole number from 0 to 1000, got '6'"),
        (2, "delta_dims", None, "delta_dims must be a whole number from 0 to 1000, got None"),
        (2, "delta_dims", -3, "delta_dims must be a whole number from 0 to 1000, got -3"),
        (2, "delta_dims", 10**12, "delta_dims must be a whole number from 0 to 1000, got 1000000"),
        (1, "delta_dims", True, "delta_dims must be a whole number from 0 to 1000, got True"),
        (1, "action_dim", "7", "key action_dim must be a whole number from 0 to 1000, got '7'"),
        (1, "cameras", 5, "key cameras must be a list of words, got 5"),
        (1, "cameras", ["front", 3], r"key cameras must be a list of words, got \['front', 3\]"),
        (1, "asset_id", 5, "asset_id must be a name such as org/robot, got 5"),
        (1, "asset_id", "../x", "asset_id must be a name such as org/robot, got '../x'"),
    ],
)
def test_a_value_of_another_kind_in_an_older_folder(
    tmp_path: Path, version: int, key: str, value: object, message: str
) -> None:
    config = folder_to_edit(tmp_path)
    values = json.loads(config.read_text())
    del values["action_space"]
    if version == 1:
        del values["robot"]
        values |= {"cameras": ["front"], "action_dim": 3}
    config.write_text(json.dumps(values | {"format_version": version, key: value}))
    with pytest.raises(InputError, match=f"config.json: .*{message}"):
        load_spec(tmp_path)


def test_an_unknown_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of 'bytes', 'paligemma', got 'words'"):
        make_policy(tmp_path / "p", tokenizer="words")


def test_a_run_folder_names_its_policy(tmp_path: Path) -> None:
    make_policy(tmp_path / "run/policy", tokenizer="bytes")
    (tmp_path / "run/config.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="a run folder; its policy is"):
        load_spec(tmp_path / "run")
