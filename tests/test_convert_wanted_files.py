"""Which files of a place are fetched, by their names alone."""

import pytest

from pi0_jax.convert.files.wanted_files import is_state, of_weights

FOLDER = (
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "other.safetensors",
    "policy_preprocessor_step_5_normalizer_processor.safetensors",
    "tokenizer.model",
    "config.json",
    "assets/org/robot/norm_stats.json",
    "org/robot/norm_stats.json",
    "runs/7/log.json",
    "readme.md",
)


def of(name: str) -> set[str]:
    return set(of_weights({file: f"at {file}" for file in FOLDER}, name))


@pytest.mark.parametrize("name", FOLDER[:3])
def test_a_shard_brings_the_others_and_what_is_said_of_them(name):
    assert of(name) == {*FOLDER[:3], *FOLDER[4:9]}


def test_one_file_brings_no_other_weights():
    assert of("other.safetensors") == {*FOLDER[2:9]}


def test_a_folder_of_the_name_of_weights_is_a_folder():
    files = {"a.bin/config.json": "1", "a.bin/x/y.bin": "2", "b.bin": "3"}
    assert of_weights(files, "a.bin") == {"config.json": "1", "x/y.bin": "2"}
    assert of_weights(files, "c.bin") == {}


def test_a_name_is_no_pattern():
    files = {"m[1].bin": "1", "m1.bin": "2", "c.json": "3"}
    assert of_weights(files, "m[1].bin") == {"m[1].bin": "1", "c.json": "3"}


def test_the_optimizer_is_never_fetched():
    assert [
        is_state(name) for name in ("optimizer.pt", "x/train_state/d/0", "my_optimizer.pt")
    ] == [
        True,
        True,
        False,
    ]
