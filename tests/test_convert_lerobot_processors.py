"""The two processor files of lerobot: every step and setting is accounted for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import NORM_STATS
from lerobot_policies import (
    NAMES,
    add_relative,
    drop_statistics,
    edit,
    make_pi05,
    move_step,
    policy_files,
    set_step,
)
from safetensors.numpy import load_file, save_file

from pi0_jax.convert.settings import lerobot_processors as processors
from pi0_jax.convert.settings.lerobot_relative import Relative
from pi0_jax.data.normalize import load_norm_stats
from pi0_jax.errors import InputError

PRE, POST = processors.PREPROCESSOR, processors.POSTPROCESSOR


def test_the_reference_data(tmp_path: Path) -> None:
    found = processors.read(policy_files(tmp_path), pi05=False)
    assert found is not None and found.statistics is not None
    assert found.modes["unnormalizer_processor"]["ACTION"] == "MEAN_STD"
    assert (found.prompt_length, found.rename, found.relative) == (48, {}, None)
    wanted = load_norm_stats(NORM_STATS)
    np.testing.assert_allclose(found.statistics.actions.std, wanted.actions.std, rtol=1e-6)


def test_a_folder_without_them(tmp_path: Path) -> None:
    assert processors.read(tmp_path, pi05=False) is None


def test_bases_have_no_statistics(tmp_path: Path) -> None:
    drop_statistics(policy_files(tmp_path))
    found = processors.read(tmp_path, pi05=False)
    assert found is not None and found.statistics is None


def test_a_pi05_normalises_before_it_writes_its_state(tmp_path: Path) -> None:
    make_pi05(policy_files(tmp_path))
    found = processors.read(tmp_path, pi05=True)
    assert found is not None and found.modes["normalizer_processor"]["STATE"] == "QUANTILES"
    with pytest.raises(InputError, match="pi0_new_line_processor is missing"):
        processors.read(tmp_path, pi05=False)


@pytest.mark.parametrize("name", ["relative_actions_processor", "delta_actions_processor"])
def test_relative_actions_under_both_names(tmp_path: Path, name: str) -> None:
    add_relative(policy_files(tmp_path), name)
    found = processors.read(tmp_path, pi05=False)
    assert found is not None
    assert found.relative == Relative(True, ("gripper",), tuple(NAMES))


def state_as(kind: str) -> Callable[[Path], None]:
    features = {"observation.state": {"type": kind, "shape": [8]}}
    return lambda folder: set_step(folder, "normalizer_processor", features=features)


def drop_step(folder: Path) -> None:
    edit(folder / PRE, lambda values: values["steps"].pop(2))


def add_step(folder: Path) -> None:
    clip = {"registry_name": "clip_processor", "config": {}}
    edit(folder / POST, lambda values: values["steps"].append(clip))


def add_class(folder: Path) -> None:
    edit(folder / POST, lambda values: values["steps"].append({"class": "my.Step"}))


def twice(folder: Path) -> None:
    edit(folder / PRE, lambda values: values["steps"].append(values["steps"][-1]))


def add_state_text(folder: Path) -> None:
    step = {"registry_name": "pi05_prepare_state_tokenizer_processor_step", "config": {}}
    edit(folder / PRE, lambda values: values["steps"].insert(1, step))


def add_state_file(folder: Path) -> None:
    edit(folder / POST, lambda values: values["steps"][1].update(state_file="x.safetensors"))


def one_side(folder: Path) -> None:
    edit(folder / POST, lambda values: values["steps"][0].pop("state_file"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: set_step(f, "device_processor", float_dtype="bfloat16"), "float_dtype is 'bf"),
        (lambda f: set_step(f, "tokenizer_processor", padding_side="left"), "padding_side is 'le"),
        (lambda f: set_step(f, "tokenizer_processor", task_key="goal"), "task_key is 'goal'"),
        (lambda f: set_step(f, "tokenizer_processor", tokenizer_name="t5"), "found 't5'"),
        (lambda f: set_step(f, "normalizer_processor", eps=0.01), "eps is 0.01, expected at most"),
        (
            lambda f: set_step(f, "unnormalizer_processor", clip=1),
            r"unnormalizer_processor.clip \(1",
        ),
        (lambda f: set_step(f, "normalizer_processor", stats={}), "normalizer_processor.stats"),
        (
            lambda f: set_step(f, "normalizer_processor", normalize_observation_keys=["a"]),
            "leaves out observation.state",
        ),
        (
            lambda f: set_step(f, "normalizer_processor", norm_map={"VISUAL": "MEAN_STD"}),
            "normalises images",
        ),
        (
            lambda f: set_step(
                f, "normalizer_processor", norm_map={"observation.state": "MIN_MAX"}
            ),
            "norm_map has observation.state, which is no kind of feature",
        ),
        (add_state_text, "pi05_prepare_state_tokenizer_processor_step is no step of a pi0"),
        (add_state_file, r"device_processor.state_file \('x.safetensors'\) is unknown"),
        (state_as("ENV"), "as ENV, expected STATE"),
        (drop_step, "pi0_new_line_processor is missing"),
        (add_step, "step clip_processor is unknown"),
        (add_class, "step my.Step is unknown"),
        (twice, "normalizer_processor is there twice"),
        (lambda f: move_step(f, "pi0_new_line_processor", 4), "in the order .*new_line.*, found"),
        (lambda f: move_step(f, "rename_observations_processor", 5), "in the order rename"),
        (lambda f: (f / POST).unlink(), "though the other processor is there"),
        (lambda f: (f / PRE).write_text("{"), "policy_preprocessor.json: expected JSON"),
        (one_side, "statistics for only one of"),
        (lambda f: next(f.glob("policy_pre*.safetensors")).unlink(), "names it as its state_file"),
        (lambda f: add_relative(f, enabled=False) or turn_on_behind(f), "is off before the net"),
    ],
)
def test_what_lerobot_would_do_otherwise_is_refused(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(policy_files(tmp_path))
    with pytest.raises(InputError, match=message):
        processors.read(tmp_path, pi05=False)


def turn_on_behind(folder: Path) -> None:
    set_step(folder, "absolute_actions_processor", enabled=True)


def test_relative_actions_come_before_the_normaliser(tmp_path: Path) -> None:
    add_relative(policy_files(tmp_path))
    move_step(tmp_path, "relative_actions_processor", 6)
    with pytest.raises(InputError, match="in the order relative_actions_processor, normalizer"):
        processors.read(tmp_path, pi05=False)


def test_both_files_hold_the_same_statistics(tmp_path: Path) -> None:
    file = next(policy_files(tmp_path).glob("policy_post*.safetensors"))
    tensors = load_file(file)
    save_file(tensors | {"action.std": 2 * tensors["action.std"]}, file)
    with pytest.raises(InputError, match="differ between input and output"):
        processors.read(tmp_path, pi05=False)


def test_statistics_are_not_whole_numbers(tmp_path: Path) -> None:
    path = next(policy_files(tmp_path).glob("policy_pre*.safetensors"))
    tensors = load_file(path)
    save_file(tensors | {"action.count": np.array([3])}, path)
    assert processors.read(tmp_path, pi05=False) is not None
    save_file(tensors | {"observation.state.std": np.ones(8, np.int64)}, path)
    with pytest.raises(InputError, match=r"observation.state.std is int64, expected float32"):
        processors.read(tmp_path, pi05=False)


def test_statistics_lie_beside_the_file_that_names_them(tmp_path: Path) -> None:
    def change(values: dict) -> None:
        values["steps"][5]["state_file"] = "../x.safetensors"

    edit(policy_files(tmp_path) / PRE, change)
    with pytest.raises(InputError, match=r"state_file is '../x.safetensors', expected the name"):
        processors.read(tmp_path, pi05=False)
