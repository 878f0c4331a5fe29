"""Bad input: one error of one line, exit code 2, nothing left behind."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import NORM_STATS, TorchGolden, make_policy, make_torch
from pieces import train_pieces
from safetensors.torch import load_file, save_file
from skips import slow

from pi0_jax.convert.commands import flax_to_torch, jax_to_flax, torch_to_flax, verify
from pi0_jax.convert.commands.command import status
from pi0_jax.io.digests import write_digests
from pi0_jax.policy.folder import TOKENIZER_FILE

Tensors = dict[str, torch.Tensor]
Q = "paligemma_with_expert.paligemma.model.language_model.layers.1.self_attn.q_proj.weight"
WORDS = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
HEAD = "paligemma_with_expert.paligemma.lm_head.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good checkpoint of each layout."""
    folder = tmp_path_factory.mktemp("made")
    for layout in ("openpi", "lerobot"):
        make_torch(folder / f"from_{layout}", layout).rename(folder / layout)
    return folder


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """A good openpi checkpoint to spoil."""
    return Path(shutil.copytree(made / "openpi", tmp_path / "source"))


def fails(
    main: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: Any
) -> str:
    """Runs a command that must fail as wrong input does; the message."""
    before = sorted(tmp_path.rglob("*"))
    assert status(main, [str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    return err


def spoil(source: Path, change: Callable[[Tensors], Any]) -> None:
    """Rewrites the weights with a change; the header with the heads stays."""
    path = source / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"num_heads": "4", "num_kv_heads": "2", "vision_heads": "3"})


def set_nan(tensors: Tensors) -> None:
    tensors[Q][0, 0] = float("nan")
    tensors["state_proj.bias"][1] = float("inf")


CHANGES: Mapping[str, tuple[Callable[[Tensors], Any], list[str]]] = {
    "missing key": (lambda t: t.pop(Q), [f"missing {Q}, shape [24, 16]"]),
    "missing probe": (
        lambda t: t.pop("state_proj.weight"),
        ["missing state_proj.weight, shape [8, 5]"],
    ),
    "extra key": (
        lambda t: t.update({"extra.weight": torch.zeros(3)}),
        ["unexpected extra.weight, shape [3]"],
    ),
    "wrong shape": (
        lambda t: t.update({Q: torch.ones(24, 17)}),
        [f"{Q}: expected shape [24, 16], got shape [24, 17]"],
    ),
    "transposed": (
        lambda t: t.update({Q: t[Q].T.contiguous()}),
        [f"{Q}: expected shape [24, 16], got shape [16, 24]"],
    ),
    "half a vocabulary": (
        lambda t: t.update({HEAD: t[HEAD][:20].contiguous()}),
        ["1 problem", "lm_head.weight: expected shape"],
    ),
    "wrong dtype": (
        lambda t: t.update({Q: t[Q].to(torch.int8)}),
        [f"{Q}: expected dtype float32 or bfloat16 or float16, got int8"],
    ),
    "not finite": (
        set_nan,
        ["2 problems", "attn/q_einsum/w[1]: NaN", "state_proj/bias: NaN"],
    ),
    "all at once": (
        lambda t: (
            t.pop("state_proj.bias"),
            t.update(x=torch.zeros(1)),
            t[Q].fill_(float("inf")),
        ),
        ["3 problems", "missing state_proj.bias", "unexpected x", f"{Q}: NaN or infinity"],
    ),
    "a key of pi0.5": (
        lambda t: t.update({"time_mlp_in.weight": t.pop("action_time_mlp_in.weight")}),
        ["2 problems", "missing action_time_mlp_in.weight", "unexpected time_mlp_in.weight"],
    ),
    "a layer in the middle missing": (
        lambda t: [t.pop(k) for k in list(t) if ".layers.1." in k and "vision" not in k],
        [
            "18 problems",
            f"missing {Q}, shape",
            "missing paligemma_with_expert.gemma_expert.model",
        ],
    ),
    "two values of one tensor": (
        lambda t: t.update({WORDS: t[HEAD] + 1}),
        [f"{HEAD} and {WORDS} differ, which are one tensor in openpi"],
    ),
    "another model": (lambda t: [t.pop(k) for k in list(t)[3:]], ["3 keys of no known pi0 layout"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_spoilt_weights(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, messages = CHANGES[name]
    spoil(source, change)
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    for message in messages:
        assert message in error
    io = tmp_path / "io.npz"
    np.savez(io, x=0)
    assert fails(verify.main, capsys, tmp_path, source, "--io", io)


def last_layer(tensors: Tensors, tower: str) -> list[str]:
    """Keys of a tower's last layer."""
    found = [key for key in tensors if tower in key and ".layers." in key]
    last = max(int(key.partition(".layers.")[2].partition(".")[0]) for key in found)
    return [key for key in found if f".layers.{last}." in key]


@pytest.mark.parametrize("tower", ["vision", "language_model"])
def test_a_last_layer_that_only_the_index_has(
    tower: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(source / "model.safetensors")
    weight_map = dict.fromkeys(tensors, "model.safetensors")
    index = json.dumps({"weight_map": weight_map})
    (source / "model.safetensors.index.json").write_text(index)
    gone = last_layer(tensors, tower)
    spoil(source, lambda t: [t.pop(key) for key in gone])
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    assert "index.json: it lists tensors that no shard holds" in error and gone[0] in error


@pytest.mark.parametrize(
    "tower", ["model.vlm.vision_tower.", "model.vlm.language_model.", "model.dit."]
)
def test_a_last_layer_that_only_config_json_has(
    tower: str, torch_golden: TorchGolden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = torch_golden("tiny_pi0_torch_transformers_native")
    source = Path(shutil.copytree(golden, tmp_path / "source", copy_function=shutil.copy))
    tensors = load_file(source / "model.safetensors")
    gone = last_layer(tensors, tower)
    kept = {key: value for key, value in tensors.items() if key not in gone}
    save_file(kept, source / "model.safetensors")
    arguments = source, tmp_path / "p", "--norm-stats", NORM_STATS
    error = fails(torch_to_flax.main, capsys, tmp_path, *arguments)
    assert f"missing {min(gone)}" in error


def test_words_that_are_there_twice(source: Path, tmp_path: Path) -> None:
    spoil(source, lambda t: t.update({WORDS: t[HEAD].clone()}))
    assert status(torch_to_flax.main, [str(source), str(tmp_path / "p")]) == 0
    manifest = json.loads((tmp_path / "p/manifest.json").read_text())
    assert WORDS in manifest["keys_used"] and HEAD in manifest["keys_unused"]


def test_a_truncated_file(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source / "model.safetensors"
    os.truncate(path, path.stat().st_size - 10)
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    assert "truncated" in error


def test_the_wrong_layout_flag(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = made / "openpi", tmp_path / "p", "--layout", "lerobot"
    assert "use --layout openpi" in fails(torch_to_flax.main, capsys, tmp_path, *arguments)


def test_missing_statistics(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(source / "assets")
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    assert "no normalisation statistics found" in error and "--norm-stats" in error


def stats_file(path: Path, state: int, actions: int, std: int | None = None) -> Path:
    widths = {"state": state, "actions": actions}
    entries = {
        name: {"mean": [1.0] * width, "std": [2.0] * (std or width)}
        for name, width in widths.items()
    }
    path.write_text(json.dumps({"norm_stats": entries}))
    return path


@pytest.mark.parametrize(
    ("layout", "widths", "message"),
    [
        ("openpi", (6, 3), "the robot has 6 values of state, the model takes 5"),
        ("lerobot", (4, 2), "expected statistics of 3 action values, got 2"),
        ("lerobot", (4, 5), "statistics of actions are of 5 values, the robot has 3"),
        ("openpi", (4, 3, 2), "must be equally long"),
    ],
)
def test_statistics_of_the_wrong_width(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    widths: tuple[int, ...],
    message: str,
) -> None:
    file = stats_file(tmp_path / "stats.json", *widths)
    arguments = made / layout, tmp_path / "p", "--norm-stats", file
    assert message in fails(torch_to_flax.main, capsys, tmp_path, *arguments)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_in_it(
    zipped: bool, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "model.safetensors").unlink()
    content = {"state_proj.weight": Evil(tmp_path / "hacked")}
    if zipped:
        torch.save(content, source / "pytorch_model.bin")
    else:
        (source / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    assert "refused" in error
    assert not (tmp_path / "hacked").exists()


def test_a_wrong_tokenizer_beside_the_source(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The network has 40 rows, the tokenizer's own text takes more pieces than that.
    many = train_pieces(tmp_path, input_sentence_size=0, byte_fallback=True, vocab_size=300)
    tokenizer = source / TOKENIZER_FILE
    for content, message in (
        (many.read_bytes(), "pieces, the network 40 rows"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"<html>", "expected a sentencepiece model"),
    ):
        tokenizer.write_bytes(content)
        error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
        assert message in error and str(tokenizer) in error
    good = train_pieces(tmp_path).read_bytes()
    tokenizer.write_bytes(good)
    assert status(torch_to_flax.main, [str(source), str(tmp_path / "p")]) == 0
    assert (tmp_path / "p" / TOKENIZER_FILE).read_bytes() == good
    assert "before the policy can act" not in capsys.readouterr().out


def test_an_empty_folder_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for main in (torch_to_flax.main, jax_to_flax.main):
        error = fails(main, capsys, tmp_path, tmp_path / "empty", tmp_path / "p")
        assert "found an empty folder" in error
        assert "no such" in fails(main, capsys, tmp_path, tmp_path / "none", tmp_path / "p")


def test_an_existing_destination(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    error = fails(torch_to_flax.main, capsys, tmp_path, made / "openpi", tmp_path / "there")
    assert "exists already" in error and "--overwrite" in error
    policy = made / "from_openpi/policy"
    arguments = policy, tmp_path / "there", "--layout", "openpi"
    assert "exists already" in fails(flax_to_torch.main, capsys, tmp_path, *arguments)


@pytest.mark.parametrize("number", ["SIGTERM", pytest.param("SIGUSR1", marks=slow)])
def test_a_terminated_command_cleans_up(made: Path, tmp_path: Path, number: str) -> None:
    """`kill` in the middle of a conversion: as Ctrl-C, nothing is left."""
    script = f"""
import os, signal
from pi0_jax.convert.commands import command
from pi0_jax.convert.sources import source
from pi0_jax.convert.commands import torch_to_flax

def killed(*_):
    os.kill(os.getpid(), signal.{number})

source.contiguous = killed
command.run(torch_to_flax.main)
"""
    arguments = [str(made / "openpi"), str(tmp_path / "new/p")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_export_is_not_read(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pi0_jax wrote has digests, in whatever library's layout."""
    shutil.copytree(made / "openpi", tmp_path / "openpi")
    write_digests(tmp_path / "openpi")
    weights = tmp_path / "openpi/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)
    error = fails(torch_to_flax.main, capsys, tmp_path, tmp_path / "openpi", tmp_path / "p")
    assert "damaged, or changed since it was written: model.safetensors" in error


def test_a_destination_in_a_checkpoint(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = made / "from_openpi/policy"
    for inside in ("x", "params/x", "assets/robot/x"):
        arguments = policy, policy / inside, "--layout", "openpi"
        assert "must not lie in the checkpoint" in fails(
            flax_to_torch.main, capsys, tmp_path, *arguments
        )


def test_the_wrong_command_names_the_right_one(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, destination = made / "from_openpi/policy", tmp_path / "p"
    error = fails(torch_to_flax.main, capsys, tmp_path, policy, destination)
    assert "use `python -m convert.jax_to_flax`" in error
    error = fails(jax_to_flax.main, capsys, tmp_path, made / "openpi", destination)
    assert "use `python -m convert.torch_to_flax`" in error
    error = fails(jax_to_flax.main, capsys, tmp_path, policy, destination)
    assert "is a policy folder already" in error
    error = fails(
        flax_to_torch.main, capsys, tmp_path, made / "openpi", destination, "--layout", "openpi"
    )
    assert "use `python -m convert.torch_to_flax`" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "arguments are required: SRC, DST"),
        (("a", "b", "--layout", "pi"), "invalid choice: 'pi'"),
        (("a", "b", "--speed", "9"), "unrecognized arguments: --speed 9"),
        (("a", "b", "--action-horizon", "0"), "expected a positive number, got '0'"),
        (("a", "b", "--execute-steps", "0"), "expected a positive number, got '0'"),
        (("a", "b", "--delta-dims", "-1"), "expected a whole number, got '-1'"),
        (("a", "b", "--asset-id", "../x"), "expected a name such as org/robot, got '../x'"),
        (("a", "b", "--asset-id", "x//y"), "expected a name such as org/robot, got 'x//y'"),
        (("a", "b", "--cameras", "front,front"), "expected different names"),
        (("a", "b", "--delta-mask", "6,x"), "expected none, or numbers of actions such as 6,-1"),
        (("a", "b", "--delta-mask", "6", "--delta-dims", "6"), "not allowed with"),
        (("a", "b", "--robot", "ur5"), "expected aloha, aloha_sim, droid, droid_joint_position, "),
        (("a", "b", "--cameras", ","), "expected different names"),
        (("a", ""), "expected a path, got ''"),
    ],
)
def test_mistyped_commands(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in fails(torch_to_flax.main, capsys, tmp_path, *arguments)


def test_old_lerobot_statistics_that_were_never_set(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(made / "lerobot", tmp_path / "source"))
    for file in source.glob("policy_*"):
        file.unlink()
    buffers = {
        f"{name}.{part}": torch.full((width,), float("inf"))
        for name, width in (
            ("normalize_inputs.buffer_observation_state", 4),
            ("normalize_targets.buffer_action", 3),
            ("unnormalize_outputs.buffer_action", 3),
        )
        for part in ("mean", "std")
    }
    spoil(source, lambda t: t.update(buffers))
    error = fails(torch_to_flax.main, capsys, tmp_path, source, tmp_path / "p")
    assert "never set" in error


def test_a_spoilt_policy_folder_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy(tmp_path / "policy")
    shutil.rmtree(tmp_path / "policy/params/d")
    arguments = tmp_path / "policy", tmp_path / "x", "--layout", "openpi"
    assert "damaged, or changed" in fails(flax_to_torch.main, capsys, tmp_path, *arguments)
