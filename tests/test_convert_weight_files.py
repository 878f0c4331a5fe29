"""Which files hold the weights: one set of them, or an error that names all."""

import json
from pathlib import Path

import pytest

from pi0_jax.convert.files.weight_files import (
    WeightSet,
    beside_pattern,
    check_listed,
    is_checkpoint,
    weight_set,
)
from pi0_jax.errors import InputError

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def folder(path: Path, *names: str, index: dict[str, list[str]] | None = None) -> Path:
    """A folder of empty files; an index by its name, with the shards it lists."""
    path.mkdir()
    for name in names:
        (path / name).touch()
    for name, shards in (index or {}).items():
        (path / name).write_text(json.dumps({"weight_map": {shard: shard for shard in shards}}))
    return path


def names(found: WeightSet) -> list[str]:
    return [file.name for file in found.files]


@pytest.mark.parametrize("name", ["model.safetensors", "29999.pt", "last.ckpt", "a.00.pth"])
def test_one_file_among_others(name: str, tmp_path: Path) -> None:
    beside = ("optimizer.pt", "training_args.bin", "random_states_0.pkl", "policy_step_5.json")
    made = folder(tmp_path / "c", name, *beside, "scheduler.bin", "metadata.pt")
    assert names(weight_set(made)) == [name]


def test_statistics_and_adapters_are_no_weights(tmp_path: Path) -> None:
    stats = "policy_preprocessor_step_5_normalizer_processor.safetensors"
    made = folder(tmp_path / "c", "model.safetensors", stats, "adapter_model.safetensors")
    assert names(weight_set(made)) == ["model.safetensors"]
    only = folder(tmp_path / "adapter", "adapter_model.bin")
    assert is_checkpoint(only) and not is_checkpoint(folder(tmp_path / "none", stats))


def test_shards_with_and_without_an_index(tmp_path: Path) -> None:
    made = folder(tmp_path / "a", *SHARDS)
    assert names(weight_set(made)) == SHARDS
    # A shard that is given stands for all of them.
    assert names(weight_set(made / SHARDS[1])) == SHARDS
    index = "model.safetensors.index.json"
    made = folder(tmp_path / "b", *SHARDS, index={index: SHARDS})
    assert names(weight_set(made)) == names(weight_set(made / index)) == SHARDS


@pytest.mark.parametrize("index", [None, {"model.safetensors.index.json": SHARDS}])
def test_a_missing_shard_is_named(index: dict[str, list[str]] | None, tmp_path: Path) -> None:
    made = folder(tmp_path / "c", SHARDS[0], index=index)
    with pytest.raises(InputError, match=rf"shards are missing: {SHARDS[1]}"):
        weight_set(made)


@pytest.mark.parametrize(
    ("files", "index"),
    [
        (["model.safetensors", "pytorch_model.bin"], {}),
        (["model.safetensors", "model.pt"], {}),
        (["model.safetensors", "ema_state.pt"], {}),
        (["model.safetensors", *SHARDS], {}),
        (["model.safetensors", *SHARDS], {"model.safetensors.index.json": SHARDS}),
        # Of an older save only the index is left.
        (["model.safetensors"], {"pytorch_model.bin.index.json": ["a.bin"]}),
        ([], {"model.safetensors.index.json": ["a.bin"], "x.bin.index.json": ["b.bin"]}),
        ([*SHARDS, "model-00001-of-00003.safetensors"], {}),
    ],
)
def test_several_sets_are_named(
    files: list[str], index: dict[str, list[str]], tmp_path: Path
) -> None:
    made = folder(tmp_path / "c", *files, index=index)
    with pytest.raises(InputError, match=r"several sets of weights, .+ and .+ as SRC: .+ or "):
        weight_set(made)
    if "model.safetensors" in files:
        assert names(weight_set(made / "model.safetensors")) == ["model.safetensors"]


def test_an_index_that_leaves_a_shard_out(tmp_path: Path) -> None:
    made = folder(tmp_path / "c", *SHARDS, index={"model.safetensors.index.json": SHARDS[:1]})
    with pytest.raises(InputError, match=f"index.json does not list {SHARDS[1]}"):
        weight_set(made)


def test_a_tensor_that_only_the_index_has(tmp_path: Path) -> None:
    made = folder(tmp_path / "c", *SHARDS, index={"model.safetensors.index.json": SHARDS})
    check_listed(weight_set(made), [*SHARDS, "more"])
    with pytest.raises(InputError, match=rf"lists tensors that no shard holds: {SHARDS[1]}; fetch"):
        check_listed(weight_set(made), SHARDS[:1])
    # Without an index nothing is listed.
    check_listed(weight_set(made / SHARDS[0]), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object"),
        ("{}", "weight_map is None, expected an object of files"),
        ('{"weight_map": {}}', "weight_map is {}, expected an object of files"),
        ('{"weight_map": {"a": 1}}', "weight_map.a is 1, expected a file's name"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "weight_map.a is '../x.*expected a file's"),
    ],
)
def test_a_damaged_index(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=message):
        weight_set(tmp_path)


def test_hidden_files_are_of_desktops_and_copying_programs(tmp_path: Path) -> None:
    beside = ("._model.safetensors", ".model.safetensors", "._model.safetensors.index.json")
    made = folder(tmp_path / "c", "model.safetensors", *beside)
    assert names(weight_set(made)) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("model.safetensors", "model.safetensors"),
        ("model-00002-of-00003.safetensors", "model-*-of-00003.safetensors"),
        ("model.safetensors.index.json", "model-*.safetensors"),
    ],
)
def test_the_files_that_belong_to_one(name: str, pattern: str) -> None:
    assert beside_pattern(name) == pattern
