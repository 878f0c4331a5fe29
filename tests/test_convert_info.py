"""pi0-convert: the commands by name, and a checkpoint of any layout on one screen."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from checkpoints import TINY, make_policy, make_torch

from pi0_jax.apps import convert
from pi0_jax.convert.command import status
from pi0_jax.data.action_space import ActionSpace


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
    mean = [float(number) for number in found["state mean"].split()]
    assert mean == pytest.approx(policy.stats.state.mean, rel=1e-2)


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


def test_statistics_that_are_missing_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy(tmp_path / "p")
    shutil.rmtree(tmp_path / "p/assets")
    found = described(capsys, tmp_path / "p")
    assert found["statistics"].startswith("none: ")
    assert found["cameras"] == "front, wrist"


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
