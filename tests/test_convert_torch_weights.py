"""Weights wherever they lie and however they were saved, or one sentence that says what to do."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pi0_jax.convert.sources.open_checkpoint import open_any
from pi0_jax.convert.sources.torch_weights import Choice, open_weights
from pi0_jax.errors import InputError

STATE = {"action_out_proj.weight": torch.arange(6.0).reshape(2, 3), "img.stem": torch.ones(2)}


def keys(path: Path, **choice: Any) -> list[str]:
    return list(open_weights(path, Choice(**choice)).tensors.shapes)


def error(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        open_weights(path)
    text = str(raised.value)
    assert "\n" not in text and "\x1b" not in text
    return text


@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "pytorch_model.bin", "a.pth", "blob"])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_by_torch_of_any_age(name: str, zipped: bool, tmp_path: Path) -> None:
    loaded = {"module": STATE, "optimizer": {"lr": 0.1}, "step": 3}
    torch.save(loaded, tmp_path / name, _use_new_zipfile_serialization=zipped)
    found = open_weights(tmp_path / name)
    assert found.tensors.shapes == {"action_out_proj.weight": (2, 3), "img.stem": (2,)}
    np.testing.assert_array_equal(
        found.tensors.read("action_out_proj.weight"), [[0, 1, 2], [3, 4, 5]]
    )
    assert found.notes == [
        "beside the weights, not read: optimizer, step",
        "the weights are those in 'module'",
    ]


def test_a_moving_average_is_another_policy(tmp_path: Path) -> None:
    ema = {key: value + 1 for key, value in STATE.items()}
    torch.save({"model": STATE, "model_ema": ema}, tmp_path / "model.pt")
    assert "in 'model' and 'model_ema'; choose one with --container" in error(tmp_path)
    found = open_weights(tmp_path, Choice("model_ema")).tensors
    assert found.read("action_out_proj.weight")[0, 0] == 1


RUNS = {
    "lerobot": "checkpoints/010000/pretrained_model/model.safetensors",
    "openpi": "29999/model.safetensors",
    "RLinf": "global_step_9/actor/model_state_dict/full_weights.pt",
    "DeepSpeed": "global_step9/mp_rank_00_model_states.pt",
}


@pytest.mark.parametrize("run", RUNS)
def test_the_root_of_a_run(run: str, tmp_path: Path) -> None:
    file = tmp_path / RUNS[run]
    for beside in ("training_state/rng_state.safetensors", "../zero_pp_rank_0_optim_states.pt"):
        (file.parent / beside).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / beside).touch()
    save_file(STATE, file) if file.suffix == ".safetensors" else torch.save(STATE, file)
    found = open_weights(tmp_path)
    assert found.folders == (file.parent,)
    assert found.notes == [f"the checkpoint is {file.parent}"]
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints/last").symlink_to(file.parents[1])
    assert keys(tmp_path / "checkpoints/last") == list(STATE)


def test_several_checkpoints_are_named(tmp_path: Path) -> None:
    for step in ("900", "10000"):
        (tmp_path / step).mkdir()
        save_file(STATE, tmp_path / step / "model.safetensors")
    newest = tmp_path / "10000"
    assert f"several checkpoints; name one: {newest}, {tmp_path / '900'}" in error(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dcp_checkpoint/__0_0.distcp", "dcp_to_torch_save"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "lerobot-convert-dcp"),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32.py"),
        ("actor/local_shard_checkpoint/checkpoint_rank_0.pt", "full_weights.pt"),
        ("run/7/params/_METADATA", "convert.jax_to_flax"),
        ("params/_METADATA", "convert.jax_to_flax"),
        ("readme.md", "found readme.md"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert message in error(tmp_path)
    if name.endswith(".distcp"):
        assert message in error(tmp_path / name)


def test_two_kinds_of_weights_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params/_METADATA").touch()
    save_file(STATE, tmp_path / "model.safetensors")
    names = f"{tmp_path / 'model.safetensors'} or {tmp_path / 'params'}"
    assert f"PyTorch weights and an Orbax folder; name one: {names}" in error(tmp_path)
    assert keys(tmp_path / "model.safetensors") == list(STATE)
    with pytest.raises(InputError, match="an Orbax folder and PyTorch weights; name one:"):
        open_any(tmp_path)


def test_a_pickled_object(tmp_path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path / "model.pt")
    assert "holds Python objects (argparse.Namespace), which are code" in error(tmp_path)
    torch.save(torch.nn.Linear(2, 3), tmp_path / "model.pt")
    assert "holds Python objects (torch.nn.modules.linear.Linear)" in error(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_short(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    os.truncate(file, file.stat().st_size // 2)
    assert "it is damaged, cut short or not by torch.save" in error(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "pytorch_model.bin"])
def test_a_git_lfs_pointer(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "a git-lfs pointer, not the file" in error(tmp_path)


def test_shards_of_two_saves_do_not_share_a_name(tmp_path: Path) -> None:
    for number in (1, 2):
        torch.save(STATE, tmp_path / f"pytorch_model-0000{number}-of-00002.bin")
    assert "keys are in another shard too: action_out_proj.weight" in error(tmp_path)
