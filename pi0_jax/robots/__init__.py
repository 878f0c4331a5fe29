"""Robots by name: the JSON files of this folder, or a file of the user's own.

A file holds the fields of `Robot`, and beside them `fine_tuning`: what a new fine-tuning for this
robot begins with (`Defaults`). Its cameras stand in the order of openpi's: the scene, the left
wrist, the right wrist.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.plain_values import build
from pi0_jax.robot import Robot, robot_from_dict

_FOLDER = Path(__file__).parent
_DEFAULTS = "fine_tuning"

AS_THE_FOLDER_SAYS = "lerobot"
"""In place of a robot's name: the robot is the one that a LeRobot folder describes."""


@dataclass(frozen=True)
class Defaults:
    """What a new fine-tuning for a robot begins with; a policy of this robot has its own.

    Attributes:
        delta_mask: which actions are relative to the state, as openpi writes it: "6,-1" is six
            relative ones and an absolute one; "" for none (`data/action_space.py`).
        adapt_to_pi: whose conversion of ALOHA's joints and grippers surrounds the network, or
            "none".
        prompt: instruction of episodes that have none.
    """

    delta_mask: str = ""
    adapt_to_pi: str = "none"
    prompt: str = ""


@dataclass(frozen=True)
class RobotFile:
    """What a robot's file holds.

    Attributes:
        robot: the robot.
        fine_tuning: what a new fine-tuning begins with.
    """

    robot: Robot
    fine_tuning: Defaults = field(default_factory=Defaults)


def robot_names() -> list[str]:
    """Names of the robots that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def load_robot(name: str | Path) -> Robot:
    """Reads a robot; arguments and errors as in `load_robot_file`."""
    return load_robot_file(name).robot


def load_robot_file(name: str | Path) -> RobotFile:
    """Reads a robot's file.

    Args:
        name: one of `robot_names`, or the path of a .json file.

    Raises:
        InputError: there is no such robot or file, or an entry is missing, unknown or wrong.
    """
    own = str(name).endswith(".json")
    path = Path(name).expanduser() if own else _FOLDER / f"{name}.json"
    if not path.is_file():
        raise InputError(
            f"robot {str(name)!r}: expected {', '.join(robot_names())} or the path of a .json file"
        )
    values = read_object(path)
    defaults = values.pop(_DEFAULTS, {})
    try:
        if not isinstance(defaults, dict):
            raise InputError(f"{_DEFAULTS} is {defaults!r}, expected an object {{...}}")
        return RobotFile(robot_from_dict(values), build(_DEFAULTS, Defaults, defaults))
    except InputError as error:
        raise InputError(f"{path}: expected the fields of a Robot: {error}") from error
