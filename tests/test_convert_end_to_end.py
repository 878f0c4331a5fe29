"""Two policies from raw observation to action: every fault around the network is seen and named."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import ROBOT, TINY, make_policy
from pieces import train_pieces

from pi0_jax.convert.commands import verify
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.commands.end_to_end import CutBytes
from pi0_jax.policy.folder import TOKENIZER_FILE
from pi0_jax.robot import named

CONFIG = dataclasses.replace(TINY, pi05=True, vocab_size=258, prompt_length=64)
"""Room for the state as text."""

Json = dict[str, Any]
Check = Callable[..., tuple[int, Json]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "p"
    limited = dataclasses.replace(ROBOT, actions=named(("x", "y", "z"), "m", limit=0.1))
    make_policy(path, CONFIG, robot=limited, tokenizer="bytes", state_in_prompt=True)
    return path


@pytest.fixture
def other(policy: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(policy, tmp_path / "q"))


@pytest.fixture
def check(policy: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Compares the policy with the copy: exit code and report."""

    def run(*flags: str) -> tuple[int, Json]:
        code = status(verify.main, [str(policy), "--against", str(other), *flags])
        printed = capsys.readouterr()
        assert not printed.err, printed.err
        return code, json.loads(printed.out)

    return run


def edit(file: Path, change: Callable[[Json], Any]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def failed(report: Json) -> set[str]:
    assert not report["ok"]
    return {name for name, row in report["end_to_end"].items() if not row["ok"]}


def named_differences(report: Json) -> set[str]:
    return {difference["what"] for difference in report["differences"]}


def test_a_copy_acts_to_the_last_bit(check: Check) -> None:
    code, report = check()
    assert code == 0 and report["differences"] == [] and report["notes"] == []
    assert {row["max_error"] for row in report["end_to_end"].values()} == {0}
    assert report["end_to_end"]["actions"]["tolerance"] == 3e-4


def test_swapped_cameras(check: Check, other: Path) -> None:
    edit(other / "config.json", lambda c: c["robot"]["cameras"].reverse())
    code, report = check()
    assert code == 1 and failed(report) == {"images", "actions"}
    assert report["differences"] == [
        {"what": "robot.cameras", "a": ["front", "wrist"], "b": ["wrist", "front"]}
    ]
    # The network alone is right.
    assert all(row["ok"] for row in report["stages"].values())


def test_other_names_of_the_same_cameras(check: Check, other: Path) -> None:
    edit(other / "config.json", lambda c: c["robot"].update(cameras=["base", "hand"]))
    code, report = check()
    assert code == 0 and named_differences(report) == {"robot.cameras"}


def test_another_mask(check: Check, other: Path) -> None:
    edit(other / "config.json", lambda c: c["action_space"].update(delta_mask=[True, False, True]))
    code, report = check()
    assert code == 1 and failed(report) == {"same_chunk_in_robot_units", "actions"}
    assert report["differences"] == [
        {"what": "action_space.delta_mask", "a": [], "b": [True, False, True]}
    ]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("actions", {"same_chunk_in_robot_units", "actions"}),
        ("state", {"normalised_state", "prompts", "actions"}),
    ],
)
def test_another_deviation(check: Check, other: Path, kind: str, rows: set[str]) -> None:
    def change(values: Json) -> None:
        values["norm_stats"][kind]["std"][1] *= 1.05

    edit(other / "assets/robot/norm_stats.json", change)
    code, report = check()
    assert code == 1 and failed(report) == rows
    assert named_differences(report) == {f"statistics.{kind}.std"}
    found = report["differences"][0]
    assert np.divide(found["b"], found["a"])[:3] == pytest.approx([1, 1.05, 1])


def test_quantiles(check: Check, other: Path) -> None:
    edit(other / "config.json", lambda c: c.update(quantile=True))
    code, report = check()
    wrong = {"normalised_state", "prompts", "same_chunk_in_robot_units", "actions"}
    assert code == 1 and failed(report) == wrong
    assert named_differences(report) == {"quantile"}


def test_the_state_in_the_prompt(check: Check, other: Path) -> None:
    edit(other / "config.json", lambda c: c.update(state_in_prompt=False))
    code, report = check()
    assert code == 1 and failed(report) == {"prompts", "actions"}
    assert named_differences(report) == {"state_in_prompt"}


def test_limits_are_compared_as_settings(check: Check, other: Path) -> None:
    def change(config: Json) -> None:
        config["robot"]["actions"][2]["high"] = 0.2

    edit(other / "config.json", change)
    code, report = check()
    assert code == 0
    assert report["differences"] == [
        {"what": "robot.actions.high", "a": [0.1, 0.1, 0.1], "b": [0.1, 0.1, 0.2]}
    ]


def test_robots_that_cannot_see_the_same(check: Check, other: Path) -> None:
    def change(config: Json) -> None:
        config["model"]["action_horizon"] = 5
        config["robot"]["cameras"] = ["front"]

    edit(other / "config.json", change)
    code, report = check()
    assert code == 1
    assert report["end_to_end"] == "not comparable: 2 and 1 cameras, 7 and 5 actions per chunk"
    assert named_differences(report) == {"robot.cameras", "model.action_horizon"}


def test_a_tokenizer_that_one_lacks(check: Check, policy: Path, other: Path) -> None:
    tokenizer = train_pieces(other.parent)
    edit(other / "config.json", lambda c: c.update(tokenizer="paligemma"))
    shutil.copy(tokenizer, other / TOKENIZER_FILE)
    code, report = check()
    assert code == 1 and failed(report) == {"prompts", "actions"}
    assert named_differences(report) == {"tokenizer"}


def test_a_wrong_tokenizer_is_refused(
    policy: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(other / "config.json", lambda c: c.update(tokenizer="paligemma"))
    (other / TOKENIZER_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert status(verify.main, [str(policy), "--against", str(other)]) == 2
    assert "a git-lfs pointer" in capsys.readouterr().err


def test_flags_that_no_policy_folder_needs(
    policy: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(policy), "--against", str(other), "--action-horizon", "5"]
    assert status(verify.main, arguments) == 2
    assert "--action-horizon: a policy folder says this itself" in capsys.readouterr().err


def test_bytes_for_every_network() -> None:
    # "Task" is 84 97 115 107: ids are two more, and 40 rows end at 39.
    assert CutBytes(258, 4).encode("lift", [3]) == [1, 86, 99, 117]
    assert CutBytes(40, 3).encode("lift", [3]) == [1, 39, 39]
