"""Which camera of a task is which of a policy: openpi, LeRobot and LIBERO name the same views."""

from pi0_jax.errors import InputError

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
    """The task's cameras are those that the policy was made for, in the same order.

    Args:
        policy: names of the policy's robot.
        task: names of the task's robot.

    Raises:
        InputError: another view, number or order.
    """
    wanted = [_VIEWS.get(name, name) for name in policy]
    if wanted != [_VIEWS.get(name, name) for name in task]:
        raise InputError(
            f"the policy expects the cameras {list(policy)}, the task has {list(task)}"
        )


def find_cameras(policy: tuple[str, ...], columns: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The columns of a data set that show what a policy's cameras show, in the policy's order.

    Args:
        policy: names in the policy folder's config.json.
        columns: names in the data set.
        where: the data set, for the message.

    Raises:
        InputError: a camera without its column, or with several.
    """
    found = []
    for camera in policy:
        view = _VIEWS.get(camera, camera)
        same = [c for c in columns if _view(c) == view]
        if len(same) != 1:
            raise InputError(
                f"{where}: expected one camera {camera!r}, got {same or 'none'} of {list(columns)}"
            )
        found += same
    return tuple(found)


def on_hand(camera: str) -> bool:
    """Whether a camera travels with the hand, going by its name, as openpi does."""
    return "wrist" in camera or _view(camera) == "wrist"


def _view(column: str) -> str:
    name = column.removeprefix(_COLUMN)
    return _VIEWS.get(name, name)
