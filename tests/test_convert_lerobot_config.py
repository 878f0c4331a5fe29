"""config.json of lerobot: every key is accounted for, and agrees with the processors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import GOLDENS
from lerobot_policies import (
    NAMES,
    add_relative,
    drop_statistics,
    make_pi05,
    policy_files,
    set_config,
    set_step,
)

from pi0_jax.convert.settings.lerobot_processors import STATE_TEXT
from pi0_jax.convert.settings.torch_config import read_config
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.errors import InputError

ALOHA = {"action": {"type": "ACTION", "shape": [14]}}


def test_the_reference_data() -> None:
    new = read_config(GOLDENS / "tiny_pi0_torch_lerobot_new")
    assert new.cameras == ("image", "image2")
    assert (new.state_dim, new.action_dim, new.execute_steps) == (8, 7, 50)
    assert (new.pi05, new.prompt_length, new.action_space) == (False, 48, AS_THE_ROBOT)
    assert new.statistics is not None
    old = read_config(GOLDENS / "tiny_pi0_torch_lerobot_old")
    assert old.sizes["proj_width"] == ("action_width", 32)
    assert old.action_space == AS_THE_ROBOT and old.statistics is None


def test_a_pi05(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    found = read_config(tmp_path)
    assert (found.pi05, found.state_in_prompt, found.prompt_length) == (True, True, 200)
    assert found.normalization["STATE"] == "QUANTILES"


def test_which_versions_pad_the_state_in_the_prompt(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    # lerobot 0.4 trained it: it has statistics, and no key of 0.5.1.
    assert read_config(tmp_path).padded_state_text
    set_config(tmp_path, use_relative_actions=False)
    assert read_config(tmp_path).padded_state_text is False


def test_the_step_of_lerobot_0_5_1_tells_the_version_too(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    add_relative(tmp_path, enabled=False)
    assert read_config(tmp_path).padded_state_text is False


def test_a_base_of_a_pi05_was_trained_by_openpi(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    drop_statistics(tmp_path)
    found = read_config(tmp_path)
    # Its files do not say either what openpi does to its actions.
    assert (found.padded_state_text, found.action_space) == (False, None)


def test_relative_actions_become_a_mask(tmp_path: Path) -> None:
    add_relative(policy_files(tmp_path))
    assert read_config(tmp_path).action_space == ActionSpace((True,) * 6 + (False,))


def test_actions_without_names_are_all_relative_and_a_note_says_so(tmp_path: Path) -> None:
    add_relative(policy_files(tmp_path), action_names=None)
    found = read_config(tmp_path)
    assert found.action_space == ActionSpace((True,) * 7)
    assert "gripper are to stay absolute" in found.notes[0]


def test_relative_actions_that_are_off(tmp_path: Path) -> None:
    add_relative(policy_files(tmp_path), enabled=False)
    assert read_config(tmp_path).action_space == AS_THE_ROBOT


def test_settings_of_aloha(tmp_path: Path) -> None:
    config: dict[str, Any] = {"type": "pi0", "adapt_to_pi_aloha": True, "output_features": ALOHA}
    (tmp_path / "config.json").write_text("{}")
    set_config(tmp_path, **config, use_delta_joint_actions_aloha=True)
    mask = ((True,) * 6 + (False,)) * 2
    assert read_config(tmp_path).action_space == ActionSpace(mask, "lerobot")


def test_a_width_that_lerobot_filled_in_is_no_evidence(tmp_path: Path) -> None:
    state = {"observation.state": {"type": "STATE", "shape": [32]}}
    camera = {"observation.images.top": {"type": "VISUAL", "shape": [3, 224, 224]}}
    set_config(policy_files(tmp_path), input_features=camera | state)
    found = read_config(tmp_path)
    assert (found.state_dim, found.action_dim) == (None, 7)


def test_other_flow_steps_are_said(tmp_path: Path) -> None:
    set_config(policy_files(tmp_path), num_inference_steps=5)
    assert read_config(tmp_path).notes == (
        "lerobot samples with 5 flow steps; ask for as many when it acts",
    )


def test_the_widths_of_a_state_as_text_must_agree(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    set_step(tmp_path, STATE_TEXT, max_state_dim=32)
    assert read_config(tmp_path).padded_state_text
    set_step(tmp_path, STATE_TEXT, max_state_dim=16)
    with pytest.raises(InputError, match="max_state_dim is 16, max_state_dim is 32; make them"):
        read_config(tmp_path)
    set_step(tmp_path, STATE_TEXT, max_state_dim="32")
    with pytest.raises(InputError, match=r"step\.max_state_dim is '32', expected a whole number"):
        read_config(tmp_path)


def test_a_width_that_the_processors_fill_in_is_no_evidence(tmp_path: Path) -> None:
    features = {"observation.state": vector("STATE", 32), "action": vector("ACTION", 32)}
    set_step(policy_files(tmp_path), "normalizer_processor", features=features)
    assert read_config(tmp_path).state_dim == 8


def test_a_mapping_without_a_mode_normalises_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"type": "pi0", "normalization_mapping": {}}')
    assert read_config(tmp_path).normalization == {"STATE": "IDENTITY", "ACTION": "IDENTITY"}


def vector(kind: str, width: int) -> dict[str, Any]:
    return {"type": kind, "shape": [width]}


def modes(mode: str) -> dict[str, str]:
    return {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: set_config(f, twist=3), r"twist \(3\) is unknown"),
        (lambda f: set_config(f, adapt_to_pi_aloha="false"), "aloha is 'false', expected true or"),
        (lambda f: set_config(f, use_relative_actions=1), "actions is 1, expected true or false"),
        (lambda f: set_config(f, relative_exclude_joints="x"), "is 'x', expected a list of texts"),
        (lambda f: set_config(f, normalization_mapping=["x"]), "expected an object of texts"),
        (lambda f: set_config(f, rtc_config=[True]), "rtc_config is .*, expected an object"),
        (lambda f: set_config(f, empty_cameras="1"), "empty_cameras is '1', expected a whole"),
        (lambda f: set_config(f, image_resolution=[0, 0]), "expected .height, width."),
        (lambda f: set_config(f, max_period=8.0), "max_period is 8.0, pi0_jax computes 4.0"),
        (lambda f: set_config(f, n_obs_steps=2), "n_obs_steps is 2"),
        (lambda f: set_config(f, n_action_steps="10"), "n_action_steps is '10', expected a whole"),
        (lambda f: set_config(f, n_action_steps=5.5), "n_action_steps is 5.5, expected a whole"),
        (lambda f: set_config(f, chunk_size=True), "chunk_size is True, expected a whole"),
        (lambda f: set_config(f, image_resolution=224), r"is 224, expected \[height, width\]"),
        (lambda f: set_config(f, image_resolution=[224, 112]), "images of pi0 are square"),
        (lambda f: set_config(f, rtc_config={"enabled": True}), "rtc_config is enabled"),
        (lambda f: set_config(f, type="pi0_fast"), "pi0-FAST writes its actions as words"),
        (lambda f: set_config(f, type="act"), "of type 'act'; expected pi0 or pi05"),
        (
            lambda f: set_config(
                f, normalization_mapping=modes("MEAN_STD") | {"VISUAL": "MIN_MAX"}
            ),
            "normalization_mapping.VISUAL is MIN_MAX, pi0 does not normalise images",
        ),
        (
            lambda f: set_config(f, tokenizer_max_length=64),
            "pads to 48, tokenizer_max_length is 64",
        ),
        (
            lambda f: set_config(f, normalization_mapping=modes("QUANTILES")),
            "normalises STATE by MEAN_STD, config.json says QUANTILES",
        ),
        (
            lambda f: set_step(f, "unnormalizer_processor", norm_map=modes("IDENTITY")),
            "unnormalizer_processor normalises STATE by IDENTITY, config.json says MEAN_STD",
        ),
        (
            lambda f: set_config(f, use_relative_actions=True, action_feature_names=NAMES),
            "relative actions: the processors have",
        ),
        (lambda f: set_config(f, use_delta_joint_actions_aloha=True), "is for 14 actions"),
        (lambda f: set_config(f, n_action_steps=51), "is 51, a chunk has 50 actions"),
        (
            lambda f: set_config(f, output_features=ALOHA),
            "disagree: normalizer_processor action has 7 values, config.json says 14; unnormalizer",
        ),
        (
            lambda f: set_step(
                f, "normalizer_processor", features={"observation.state": vector("STATE", 9)}
            ),
            "normalizer_processor observation.state has 9 values, config.json says 8",
        ),
        (
            lambda f: set_step(f, "unnormalizer_processor", features={"action": {"type": "x"}}),
            "policy_postprocessor.json: .*action.shape is missing",
        ),
        (
            lambda f: set_step(f, "rename_observations_processor", rename_map={"a": "b"}),
            "renamed to b",
        ),
    ],
)
def test_what_lerobot_would_do_otherwise_is_refused(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(policy_files(tmp_path))
    with pytest.raises(InputError, match=message) as error:
        read_config(tmp_path)
    assert "cannot read" not in str(error.value)


def test_relative_actions_must_agree(tmp_path: Path) -> None:
    add_relative(policy_files(tmp_path))
    set_config(tmp_path, relative_exclude_joints=[])
    with pytest.raises(InputError, match=r"processors and config.json disagree: relative actions"):
        read_config(tmp_path)


def test_cameras_are_renamed(tmp_path: Path) -> None:
    rename = {"observation.images.front": "observation.images.image"}
    set_step(policy_files(tmp_path), "rename_observations_processor", rename_map=rename)
    assert read_config(tmp_path).cameras == ("front", "image2")
