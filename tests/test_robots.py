"""Robots as files: those of the package, a user's own, and what is wrong with one."""

import dataclasses
import json
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.robots import load_robot, robot_names


def test_the_robots_of_the_package() -> None:
    widths = {name: (len(load_robot(name).state), len(load_robot(name).actions)) for name in
              robot_names()}  # fmt: skip
    assert widths == {"aloha": (14, 14), "droid": (8, 8), "libero_panda": (8, 7)}
    assert all(load_robot(name).name == name for name in robot_names())


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    values = dataclasses.asdict(load_robot("droid")) | {"name": "mine", "cameras": ["a"]}
    (tmp_path / "mine.json").write_text(json.dumps(values))
    robot = load_robot(tmp_path / "mine.json")
    assert (robot.name, robot.cameras, len(robot.actions)) == ("mine", ("a",), 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.json: expected JSON: Expecting property"),
        ("[]", "bad.json: expected a JSON object"),
        ('{"name": "x"}', "bad.json: expected the fields of a Robot: .* robot.cameras is missing"),
        ('{"name": "x", "cameras": [], "state": [], "actions": []}', "at least one camera"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_robot(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["ur5", "missing.json", "../aloha"])
def test_an_unknown_robot_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="expected aloha, droid, libero_panda or the path"):
        load_robot(name)
