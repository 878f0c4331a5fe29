"""Whose policy a checkpoint is: the robot that the user names, or that its files name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.cameras import views_of
from pi0_jax.data.normalize import Stats
from pi0_jax.errors import InputError
from pi0_jax.robot import VIEWS, Robot, numbered
from pi0_jax.robots import load_robot, robot_names

OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""openpi names these three for every robot, and masks those that it lacks."""

ROBOT_OF_ASSET = {
    "physical-intelligence/libero": "libero_panda",
    "droid": "droid",
    "trossen": "aloha",
}
"""openpi's asset ids that belong to one robot (`src/openpi/training/config.py`)."""

VELOCITIES = "droid"
"""A robot whose actions are velocities, which nobody stores relative to the state."""

_TWO_ARMS = 14  # actions of ALOHA, the robot with two arms that openpi knows


@dataclass(frozen=True)
class RobotWishes:
    """What the command line says about the robot; None for nothing.

    Attributes:
        robot: the robot of `--robot`.
        state_dim: its number of state values, where no robot is named.
        action_dim: its number of actions, where no robot is named.
        cameras: names in order.
    """

    robot: Robot | None = None
    state_dim: int | None = None
    action_dim: int | None = None
    cameras: tuple[str, ...] | None = None


def choose_robot(
    found: FoundStats,
    declared: TorchConfig,
    wishes: RobotWishes,
    padded: int,
    space: ActionSpace = AS_THE_ROBOT,
) -> Robot:
    """The robot of a converted policy.

    Args:
        found: the statistics; openpi's name for them may be a robot's.
        declared: what the checkpoint's config.json declares.
        wishes: what the command line says.
        padded: the network's state and action dimension.
        space: which actions are relative to the state.

    Raises:
        InputError: the widths are not known, or widths or cameras contradict each other.
    """
    known = wishes.robot or _of_asset(found, declared, wishes, padded, space)
    if known is not None:
        state, actions = known.state, known.actions
        _check_width(found, declared, known)
    else:
        stats = found.stats
        state_dim, action_dim = wishes.state_dim, wishes.action_dim
        state_dim = _width("state", state_dim or declared.state_dim, stats.state, padded)
        action_dim = _width("action", action_dim or declared.action_dim, stats.actions, padded)
        state, actions = numbered("state", state_dim), numbered("action", action_dim)
    cameras, masked = _cameras(known, declared, wishes, len(actions))
    robot = known or Robot("unknown", cameras, state, actions)
    return replace(robot, cameras=cameras, masked_cameras=masked)


def camera_views(known: Robot, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """Per camera of a checkpoint, the view that its name says to a robot; its name if none."""
    own = dict(zip(known.cameras, views_of(known), strict=True))
    said = views_of(replace(known, cameras=cameras, masked_cameras=(), views=()))
    return tuple(own.get(name, view) for name, view in zip(cameras, said, strict=True))


def _of_asset(
    found: FoundStats,
    declared: TorchConfig,
    wishes: RobotWishes,
    padded: int,
    space: ActionSpace,
) -> Robot | None:
    """The robot of openpi's asset id, if every width that is known is that robot's."""
    name = ROBOT_OF_ASSET.get(found.asset_id)
    # openpi has joint positions under this id, too (`pi05_full_droid_finetune`, mask 7,-1).
    if name is None or (name == VELOCITIES and any(space.delta_mask)):
        return None
    robot = load_robot(name)
    for given, told, stats, dimensions in (
        (wishes.state_dim, declared.state_dim, found.stats.state, robot.state),
        (wishes.action_dim, declared.action_dim, found.stats.actions, robot.actions),
    ):
        known = [given, told, None if _is_padded(stats, padded) else len(stats.mean)]
        if any(width not in (None, len(dimensions)) for width in known):
            return None
    return robot


def _check_width(found: FoundStats, declared: TorchConfig, robot: Robot) -> None:
    for kind, told, stats, dimensions in (
        ("values of state", declared.state_dim, found.stats.state, robot.state),
        ("actions", declared.action_dim, found.stats.actions, robot.actions),
    ):
        width = len(dimensions)
        # Statistics that are wider hold the network's padding after the robot's own dimensions.
        padding = stats.mean[width:].any() or stats.std[width:].any()
        if len(stats.mean) < width or padding or told not in (None, width):
            raise InputError(
                f"robot {robot.name!r} has {width} {kind}, {found.where} statistics of "
                f"{len(stats.mean)}{'' if told is None else f', config.json {told}'}; choose "
                f"another --robot ({', '.join(robot_names())}, or a .json file)"
            )


def _width(kind: str, width: int | None, stats: Stats, padded: int) -> int:
    """Number of the robot's own dimensions, from what says it."""
    if width:
        if width > len(stats.mean):
            raise InputError(f"expected statistics of {width} {kind} values, got {len(stats.mean)}")
        return width
    # A last dimension that never moves looks like padding: zeros are no evidence.
    if _is_padded(stats, padded):
        raise InputError(
            f"the statistics are padded to the network's {padded} {kind} dimensions, and no file "
            f"says how many are the robot's; give --robot NAME or --{kind}-dim N"
        )
    return len(stats.mean)


def _is_padded(stats: Stats, padded: int) -> bool:
    """Whether the statistics are as wide as the network and end in a dimension of zeros."""
    last = np.array([stats.mean[-1], stats.std[-1]])
    return len(stats.mean) >= padded and not last.any()


def _cameras(
    known: Robot | None, declared: TorchConfig, wishes: RobotWishes, actions: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the cameras that the robot has, in the network's order, and of the masked ones."""
    named = wishes.cameras or declared.cameras
    wanted = len(known.cameras) if known else None
    if named == OPENPI_CAMERAS and not wishes.cameras:
        # openpi's `policies/libero_policy.py` and `droid_policy.py` mask the right wrist.
        count = wanted or _guessed_count(actions)
        return OPENPI_CAMERAS[:count], OPENPI_CAMERAS[count:]
    if named:
        if known and len(named) != wanted:
            raise InputError(
                f"robot {known.name!r} has the cameras {_list(known.cameras)}, the checkpoint "
                f"{_list(named)}; choose another --robot, or name them: --cameras A,B"
            )
        if known:
            _check_views(known, named)
        return named, ()
    if known:
        return known.cameras, OPENPI_CAMERAS[len(known.cameras) :]
    count = _guessed_count(actions)
    return OPENPI_CAMERAS[:count], OPENPI_CAMERAS[count:]


def _guessed_count(actions: int) -> int:
    """Cameras of a robot of which nobody says how many it has: one per arm, and the scene."""
    return 2 if actions < _TWO_ARMS else 3


def _check_views(known: Robot, named: tuple[str, ...]) -> None:
    """Checks that no camera of the checkpoint stands where the robot has another view.

    Raises:
        InputError: its name says another view than the robot's at this place.
    """
    for name, ours, theirs in zip(named, views_of(known), camera_views(known, named), strict=True):
        if ours != theirs and ours in VIEWS and theirs in VIEWS:
            raise InputError(
                f"camera {name!r} of {_list(named)} is {theirs} by its name, robot "
                f"{known.name!r} has {ours} at this place; give a --robot FILE.json with these "
                "cameras in this order and without views"
            )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
