"""Matches a task's cameras to a policy's: openpi, LeRobot and LIBERO name the same views."""

from pi0_jax.errors import InputError
from pi0_jax.robot import VIEWS, Robot

_SCENE, _WRIST, _RIGHT_WRIST = VIEWS
# Camera name -> view. A name that is not here is a view of its own.
# openpi `examples/libero/main.py` and `policies/{libero,aloha,droid}_policy.py`; data sets of
# LeRobot's libero and aloha_sim.
_VIEWS = {
    "agentview": _SCENE,
    "image": _SCENE,
    "cam_high": _SCENE,
    "top": _SCENE,
    "exterior_image_1_left": _SCENE,
    "robot0_eye_in_hand": _WRIST,
    "wrist_image": _WRIST,
    "image2": _WRIST,
    "cam_left_wrist": _WRIST,
    "wrist_image_left": _WRIST,
    "cam_right_wrist": _RIGHT_WRIST,
}
# How LeRobot spells a camera's column.
_COLUMN = "observation.images."


def views_of(robot: Robot) -> tuple[str, ...]:
    """Per camera of a robot, the view that it shows: `VIEWS`, or its own name where unknown."""
    return robot.views or tuple(_view(camera) for camera in robot.cameras)


def check_cameras(policy: Robot, task: Robot) -> None:
    """Checks that the task's cameras are those of the policy, in the same order.

    Args:
        policy: the policy's robot.
        task: the task's robot.

    Raises:
        InputError: the views, their number or their order differ.
    """
    if policy.cameras != task.cameras and views_of(policy) != views_of(task):
        raise InputError(
            f"the policy expects the cameras {list(policy.cameras)}, the task has "
            f"{list(task.cameras)}"
        )


def find_cameras(policy: tuple[str, ...], columns: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Finds the columns of a data set that show a policy's views, in the policy's order.

    Args:
        policy: camera names in the policy folder's config.json.
        columns: camera names in the data set.
        where: name of the data set, for the message.

    Raises:
        InputError: a camera has no column, or several.
    """
    found = []
    for camera in policy:
        view = _view(camera)
        named = [c for c in columns if c.removeprefix(_COLUMN) == camera]
        # Two columns with one view: which one the policy was trained on cannot be known.
        same = named or [c for c in columns if _view(c) == view]
        if len(same) != 1:
            raise InputError(
                f"{where}: expected one camera {camera!r}, got {same or 'none'} of {list(columns)}"
            )
        found += same
    return tuple(found)


def on_hand(camera: str) -> bool:
    """Whether a camera moves with the hand, judged by its name or view, as in openpi."""
    return "wrist" in _view(camera)


def _view(column: str) -> str:
    name = column.removeprefix(_COLUMN)
    return _VIEWS.get(name, name)
