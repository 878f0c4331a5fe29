"""Robots by name: the JSON files of this folder, or a file of the user's own.

A file holds the fields of `Robot`. Its cameras stand in the order of openpi's: the scene, the left
wrist, the right wrist.
"""

from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.robot import Robot, robot_from_dict

_FOLDER = Path(__file__).parent


def robot_names() -> list[str]:
    """Names of the robots that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def load_robot(name: str | Path) -> Robot:
    """Reads a robot.

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
    try:
        return robot_from_dict(values)
    except InputError as error:
        raise InputError(f"{path}: expected the fields of a Robot: {error}") from error
