"""Matches a task's cameras to a policy's: openpi, LeRobot and LIBERO name the same views."""

from pi0_jax.errors import InputError

# Camera name -> view. A name that is not here is a view of its own.
# openpi `examples/libero/main.py` and `policies/libero_policy.py`; LeRobot's libero data sets.
_VIEWS = {
    "agentview": "scene",
    "base_0_rgb": "scene",
    "image": "scene",
    "robot0_eye_in_hand": "wrist",
    "left_wrist_0_rgb": "wrist",
    "wrist_image": "wrist",
    "image2": "wrist",
}
# How LeRobot spells a camera's column.
_COLUMN = "observation.images."


def check_cameras(policy: tuple[str, ...], task: tuple[str, ...]) -> None:
    """Checks that the task's cameras are those of the policy, in the same order.

    Args:
        policy: camera names of the policy's robot.
        task: camera names of the task's robot.

    Raises:
        InputError: the views, their number or their order differ.
    """
    wanted = [_VIEWS.get(name, name) for name in policy]
    if wanted != [_VIEWS.get(name, name) for name in task]:
        raise InputError(
            f"the policy expects the cameras {list(policy)}, the task has {list(task)}"
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
        view = _VIEWS.get(camera, camera)
        # Two columns with one view: which one the policy was trained on cannot be known.
        same = [c for c in columns if _view(c) == view]
        if len(same) != 1:
            raise InputError(
                f"{where}: expected one camera {camera!r}, got {same or 'none'} of {list(columns)}"
            )
        found += same
    return tuple(found)


def on_hand(camera: str) -> bool:
    """Whether a camera moves with the hand, judged by its name, as in openpi."""
    return "wrist" in camera or _view(camera) == "wrist"


def _view(column: str) -> str:
    name = column.removeprefix(_COLUMN)
    return _VIEWS.get(name, name)
