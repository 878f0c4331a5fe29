"""Whether a policy was trained for the robot of a task."""

from pi0_jax.data.cameras import check_cameras
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot
from pi0_jax.robots import robot_names


def check_robot(policy: Robot, task: Robot) -> None:
    """Checks that the policy was trained for the robot of this task.

    Raises:
        InputError: the number of actions or of state values, or the cameras differ, or the gripper
            convention or the control rate, if both robots have one; or both come with the package,
            and their numbers mean something else.
    """
    for kind in ("actions", "state"):
        ours, theirs = len(getattr(policy, kind)), len(getattr(task, kind))
        if ours != theirs:
            raise InputError(
                f"the policy's robot {policy.name!r} has {kind} of {ours} dimensions, the task's "
                f"{task.name!r} of {theirs}; choose a policy of this robot"
            )
    # Converted checkpoints often do not state these two.
    for kind, unknown in (("gripper", "unknown"), ("control_hz", None)):
        ours, theirs = getattr(policy, kind), getattr(task, kind)
        if ours != theirs and unknown not in (ours, theirs):
            raise InputError(f"{kind} is {ours!r} for the policy and {theirs!r} for the task")
    check_cameras(policy, task)
    if {policy.name, task.name} <= set(robot_names()):
        _check_meaning(policy, task)


def _check_meaning(policy: Robot, task: Robot) -> None:
    """Checks that as many numbers mean the same, as those of LIBERO's and Lift's Pandas do not.

    Names of one's own mean nothing here, so it is for robots that come with the package.

    Raises:
        InputError: a dimension has another name or unit.
    """
    for kind in ("actions", "state"):
        for ours, theirs in zip(getattr(policy, kind), getattr(task, kind), strict=True):
            if (ours.name, ours.unit) != (theirs.name, theirs.unit):
                raise InputError(
                    f"{kind} of the policy's robot {policy.name!r} have {ours.name!r} where those "
                    f"of the task's {task.name!r} have {theirs.name!r}; choose a policy of this "
                    "robot"
                )
