"""What was guessed about a converted policy's robot, for the user to confirm or to correct."""

from pi0_jax.convert.into.robot_choice import (
    OPENPI_CAMERAS,
    ROBOT_OF_ASSET,
    VELOCITIES,
    RobotWishes,
    camera_views,
)
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.cameras import views_of
from pi0_jax.robot import VIEWS, Robot
from pi0_jax.robots import load_robot, robot_names


def robot_notes(
    found: FoundStats,
    declared: TorchConfig,
    wishes: RobotWishes,
    space: ActionSpace,
    robot: Robot,
) -> list[str]:
    """What `choose_robot` guessed, one text each.

    Args:
        found: the statistics.
        declared: what the checkpoint's config.json declares.
        wishes: what the command line says.
        space: which actions are relative to the state.
        robot: the robot that was chosen.
    """
    of_asset = ROBOT_OF_ASSET.get(found.asset_id)
    chosen = wishes.robot
    if chosen is None and of_asset is not None and of_asset == robot.name:
        chosen = load_robot(of_asset)
    return [
        *(_limits(found.asset_id, robot) if chosen is not wishes.robot else []),
        *(_velocities(space) if chosen is None and of_asset == VELOCITIES else []),
        *([] if wishes.cameras else _cameras(chosen, declared, robot)),
    ]


def _limits(asset_id: str, robot: Robot) -> list[str]:
    limited = [d for d in robot.actions if d.low is not None or d.high is not None]
    if not limited:
        return []
    first = limited[0]
    others = ", ".join(name for name in robot_names() if name != robot.name)
    return [
        f"the asset id {asset_id!r} alone chose the robot {robot.name!r}: actions are clipped to "
        f"its limits ({first.name}: {first.low} to {first.high}, ...); if they are another "
        f"robot's, give --robot NAME ({others}, or a .json file)"
    ]


def _velocities(space: ActionSpace) -> list[str]:
    if not any(space.delta_mask):
        return []
    return [
        f"relative actions are not the joint velocities of robot {VELOCITIES!r}, so the robot is "
        "not known; if they are joint positions, give --robot droid_joint_position"
    ]


def _cameras(chosen: Robot | None, declared: TorchConfig, robot: Robot) -> list[str]:
    if chosen is not None:
        return _mapping(chosen, robot.cameras)
    if declared.cameras not in ((), OPENPI_CAMERAS):
        return []
    names = ",".join(OPENPI_CAMERAS)
    if robot.masked_cameras:
        absent = ", ".join(robot.masked_cameras)
        return [f"{absent} is taken to be absent; if the robot has it: --cameras {names}"]
    return [f"the robot is taken to have the cameras {names}; if it lacks some: --cameras A,B"]


def _mapping(chosen: Robot, cameras: tuple[str, ...]) -> list[str]:
    """Says which view a camera is taken for, if its name does not say so."""
    # Cameras that are masked, or openpi's three, are named by their views.
    views = zip(cameras, views_of(chosen), camera_views(chosen, cameras), strict=True)
    guessed = [f"{name} for {view}" for name, view, said in views if said not in (view, *VIEWS)]
    if not guessed:
        return []
    return [
        f"by their order, the cameras of robot {chosen.name!r} are taken to be: "
        f"{', '.join(guessed)}; for another order give a --robot FILE.json"
    ]
