"""pi0-convert: the commands by name, and a checkpoint of any layout on one screen."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from checkpoints import TINY, make_policy, make_torch
from pieces import train_pieces

from pi0_jax.apps import convert
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.keys.keymap import leaves
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.sentencepiece_file import load_pieces
from pi0_jax.policy.folder import TOKENIZER_FILE


def described(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, str]:
    """The rows that the command prints."""
    assert status(convert.main, ["info", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[14:] for line in lines}


def test_a_policy_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = make_policy(tmp_path / "p", action_space=ActionSpace((True, True)), quantile=True)
    found = described(capsys, tmp_path / "p")
    assert found["layout"] == "pi0_jax policy"
    assert found["parameters"].endswith(" as float32")
    assert found["images"] == "28 px, 4 tokens each; width 12, 2 layers, 3 heads"
    assert found["experts"] == "widths 16 and 8; 3 layers, 4 query and 2 key/value heads of 6"
    assert found["chunk"] == "7 actions, padded to 5"
    assert found["cameras"] == "front, wrist"
    assert found["actions"] == "3, relative to the state by the mask 2"
    assert found["normalisation"] == "1 % and 99 % quantiles"
    assert found["statistics"].endswith("norm_stats.json (asset id robot)")
    assert policy.stats.state.q01 is not None
    q01 = [float(number) for number in found["state q01"].split()]
    assert q01 == pytest.approx(policy.stats.state.q01, rel=1e-2)
    assert found["robot"] == "test, 4 values of state"
    assert found["executed"] == "4 actions of each chunk"
    assert "paligemma_tokenizer.model is missing" in found["tokenizer"]
    beside = "assets/robot/norm_stats.json, config.json, digests.json, manifest.json"
    assert found["beside them"] == beside


def test_a_pi05(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = dataclasses.replace(TINY, pi05=True)
    make_policy(tmp_path / "p", config, quantile=True, state_in_prompt=True)
    found = described(capsys, tmp_path / "p")
    assert (found["model"], found["state"]) == ("pi0.5", "text in the prompt")
    # An openpi folder does not say how it normalises; the model does.
    export = make_torch(tmp_path / "t", "openpi", config)
    found = described(capsys, export)
    assert (found["model"], found["normalisation"]) == ("pi0.5", "1 % and 99 % quantiles")


@pytest.mark.parametrize("layout", ["openpi", "lerobot"])
def test_a_foreign_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    found = described(capsys, make_torch(tmp_path, layout))
    assert found["layout"].startswith(layout)
    assert found["chunk"] == "7 actions, padded to 5"
    assert found["actions"] == "3"
    assert found["normalisation"] == "mean and deviation"
    assert len(found["action mean"].split()) == 3
    # No forward pass reads the action expert's words.
    assert "gemma_expert.lm_head.weight: the action expert predicts no words" in found["unread"]


def test_statistics_that_are_missing_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy(tmp_path / "p")
    shutil.rmtree(tmp_path / "p/assets")
    found = described(capsys, tmp_path / "p")
    assert "no normalisation statistics found" in found["not usable"]
    assert found["cameras"] == "front, wrist"
    # A foreign folder has the cameras that its config.json declares.
    lerobot = make_torch(tmp_path / "t", "lerobot")
    for file in lerobot.glob("policy_*"):
        file.unlink()
    found = described(capsys, lerobot)
    assert "give --norm-stats" in found["not usable"] and found["cameras"] == "front, wrist"
    given = "--norm-stats", tmp_path / "t/policy/assets/robot/norm_stats.json"
    found = described(capsys, lerobot, *given, "--delta-mask", "2,-1")
    assert found["actions"] == "3, relative to the state by the mask 2,-1"


def test_a_tokenizer_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy(tmp_path / "p")
    shutil.copy(train_pieces(tmp_path), tmp_path / "p" / TOKENIZER_FILE)
    # How many pieces these lines give differs between versions of sentencepiece.
    count = load_pieces(tmp_path / "p" / TOKENIZER_FILE, 60).vocab_size()
    assert 20 < count < 35
    assert f"of {count} pieces" in described(capsys, tmp_path / "p")["tokenizer"]
    (tmp_path / "p" / TOKENIZER_FILE).write_bytes(b"")
    assert "not usable" in described(capsys, tmp_path / "p")["tokenizer"]


def test_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy(tmp_path / "p")
    found = described(capsys, tmp_path / "p")
    assert status(convert.main, ["info", str(tmp_path / "p"), "--values"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.split()[:2] == ["min", "max"]) :]
    assert len(table) == 1 + len(leaves(pi05=False)) + 1
    name, *numbers = table[-1].split()
    assert (name, numbers) == ("cond_embed", ["0", "0", "0", "0", "100.00%", "0"])
    assert len(lines) == len(table) + len(found)


def test_flags_of_a_policy_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy(tmp_path / "p")
    arguments = ["info", str(tmp_path / "p"), "--delta-mask", "2,-1", "--asset-id", "x"]
    assert status(convert.main, arguments) == 2
    assert "--asset-id, --delta-mask: a policy folder says" in capsys.readouterr().err


def test_commands_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(convert.main, ["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in convert.COMMANDS)
    assert status(convert.main, []) == 2
    assert status(convert.main, ["flax-to-touch"]) == 2
    assert "expected one of torch-to-flax, jax-to-flax" in capsys.readouterr().err
    make_policy(tmp_path / "p")
    assert status(convert.main, ["jax-to-flax", str(tmp_path / "p"), str(tmp_path / "q")]) == 2
    assert "is a policy folder already" in capsys.readouterr().err
