"""Robots as files: those of the package, a user's own, and what is wrong with one."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pi0_jax.data.action_space import ActionSpace, parse_mask
from pi0_jax.errors import InputError
from pi0_jax.robots import Defaults, load_robot, load_robot_file, robot_names


def test_the_robots_of_the_package() -> None:
    widths = {
        name: (len(load_robot(name).state), len(load_robot(name).actions)) for name in robot_names()
    }
    arms = dict.fromkeys(("so100", "so101", "so101_degrees"), (6, 6))
    two_arms = dict.fromkeys(("aloha", "aloha_sim"), (14, 14))
    droids = dict.fromkeys(("droid", "droid_joint_position"), (8, 8))
    pandas = dict.fromkeys(("libero_panda", "lift_panda"), (8, 7))
    assert widths == {**droids, **pandas, **arms, **two_arms}
    assert all(load_robot(name).name == name for name in robot_names())
    # The network sees the order of the cameras alone, so each file says which is which.
    assert all(load_robot(name).views[0] == "base_0_rgb" for name in robot_names())


def test_what_a_new_fine_tuning_begins_with() -> None:
    """As openpi's configs of real ALOHA; a robot whose actions are motions has no mask."""
    aloha = load_robot_file("aloha")
    assert aloha.fine_tuning == Defaults("6,-1,6,-1", "openpi")
    assert aloha.robot.reset_pose[:6] == (0.0, -1.5, 1.5, 0.0, 0.0, 0.0)
    assert load_robot_file("libero_panda").fine_tuning == Defaults()
    for name in robot_names():
        file = load_robot_file(name)
        mask = file.fine_tuning.delta_mask
        ActionSpace(parse_mask(mask) if mask else (), file.fine_tuning.adapt_to_pi).check_robot(
            file.robot
        )


def test_two_kinds_of_droid_differ_in_their_actions() -> None:
    """Velocities are sent between -1 and 1; a joint's position in rad has no such limits."""
    velocities, positions = load_robot("droid"), load_robot("droid_joint_position")
    assert (velocities.state, velocities.cameras) == (positions.state, positions.cameras)
    seven = np.full((1, 8), 2.5)
    assert velocities.clip(seven).tolist() == [[1.0] * 8]
    assert positions.clip(seven).tolist() == [[2.5] * 7 + [1.0]]
    assert load_robot_file("droid_joint_position").fine_tuning == Defaults("7,-1")


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    values = dataclasses.asdict(load_robot("droid")) | {
        "name": "mine",
        "cameras": ["a"],
        "views": [],
    }
    (tmp_path / "mine.json").write_text(json.dumps(values))
    robot = load_robot(tmp_path / "mine.json")
    assert (robot.name, robot.cameras, len(robot.actions)) == ("mine", ("a",), 8)


def own(**changes: object) -> str:
    return json.dumps(dataclasses.asdict(load_robot("droid")) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.json: expected JSON: Expecting property"),
        ("[]", "bad.json: expected a JSON object"),
        ('{"name": "x"}', "bad.json: expected the fields of a Robot: .* robot.cameras is missing"),
        ('{"name": "x", "cameras": [], "state": [], "actions": []}', "at least one camera"),
        ('{"fine_tuning": []}', r"fine_tuning is \[\], expected an object"),
        (own(fine_tuning={"mask": ""}), "unknown config key fine_tuning.mask; the nearest"),
        (own(views=["left_wrist_0_rgb", "base_0_rgb"]), "views must be one of base_0_rgb"),
        (own(reset_pose=[0.0]), "reset_pose has 1 numbers, expected one for each of the 8"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_robot(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["ur5", "missing.json", "../aloha"])
def test_an_unknown_robot_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"expected aloha, aloha_sim, droid, .* or the path"):
        load_robot(name)
