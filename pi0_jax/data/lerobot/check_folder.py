"""All that is looked at before a data set is learnt: rows, times, pictures, numbers, tasks."""

from collections.abc import Collection

from pi0_jax.data.lerobot.check_pictures import check_pictures
from pi0_jax.data.lerobot.check_robot import check_numbers
from pi0_jax.data.lerobot.check_tasks import check_tasks
from pi0_jax.data.lerobot.findings import Finding
from pi0_jax.data.lerobot.folder import LeRobotFolder
from pi0_jax.robot import Robot


def check_folder(
    folder: LeRobotFolder, robot: Robot | None, wanted: Collection[str] | None = None
) -> list[Finding]:
    """Everything that is wrong or strange, what stops first.

    Args:
        folder: as it was read, with what was damaged in its tables.
        robot: whose data they should be; None if nobody says.
        wanted: instructions of the tasks to learn; None for those that there are.
    """
    recordings = folder.recordings
    found = [
        *folder.findings,
        *check_pictures(recordings, folder.robot.control_hz or 1.0),
        *check_numbers(recordings, folder.robot, robot),
        *check_tasks(recordings, folder.instructions, wanted),
    ]
    return sorted(found, key=lambda one: not one.stops)
