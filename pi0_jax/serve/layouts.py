"""Under which keys clients send what a robot observes: those of openpi's examples, and plain ones.

A map in a map is read as one with longer keys: {"images": {"cam_high": x}} is the same as
{"images/cam_high": x}.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.robot import Robot

PROMPT = "prompt"
_DEEPEST = 8  # maps in one another; openpi's clients send two


@dataclass(frozen=True)
class Layout:
    """The keys of an observation.

    Attributes:
        name: such as "libero".
        images: one key per camera of the robot, in its order.
        state: keys whose values, one after the other, are the robot's state.
        unread: keys that clients send too, and that openpi's policies do not read either.
        cameras_may_miss: all cameras but the first may be left out; the policy is told.
        metadata: what a client gets when it connects.
    """

    name: str
    images: tuple[str, ...]
    state: tuple[str, ...]
    unread: tuple[str, ...] = ()
    cameras_may_miss: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that it knows."""
        return (*self.images, *self.state, PROMPT, *self.unread)


LIBERO = Layout(
    "libero",
    images=("observation/image", "observation/wrist_image"),
    state=("observation/state",),
)
DROID = Layout(
    "droid",
    images=("observation/exterior_image_1_left", "observation/wrist_image_left"),
    state=("observation/joint_position", "observation/gripper_position"),
)
ALOHA = Layout(
    "aloha",
    images=("images/cam_high", "images/cam_left_wrist", "images/cam_right_wrist"),
    state=("state",),
    # ALOHA has this camera; no policy of openpi has an input for it.
    unread=("images/cam_low",),
    # ALOHA's simulator has the first camera alone.
    cameras_may_miss=True,
    # Of openpi's configs of ALOHA: rad, one arm's joints, where an episode begins.
    metadata={"reset_pose": [0.0, -1.5, 1.5, 0.0, 0.0, 0.0]},
)
LAYOUTS = {layout.name: layout for layout in (LIBERO, DROID, ALOHA)}
# Names of `robots/*.json`.
_OF_ROBOT = {"libero_panda": LIBERO, "droid": DROID, "aloha": ALOHA}


def plain_layout(robot: Robot) -> Layout:
    """The layout that any robot can have: images/CAMERA and state."""
    return Layout("plain", tuple(f"images/{camera}" for camera in robot.cameras), ("state",))


def layouts_of(robot: Robot, name: str = "") -> tuple[Layout, ...]:
    """The layouts that a server of this robot reads; the first is the one that it names.

    Args:
        robot: of the policy.
        name: of `LAYOUTS`; "" for that of the robot. A robot whose name openpi's examples do not
            have gets the plain one alone: keys of another robot would be a guess.

    Raises:
        InputError: no such layout, or one of another number of cameras.
    """
    if name and name not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    plain, own = plain_layout(robot), LAYOUTS[name] if name else _OF_ROBOT.get(robot.name)
    if own is None:
        return (plain,)
    if len(own.images) != len(robot.cameras):
        if name:
            raise InputError(
                f"layout {name!r} has {len(own.images)} cameras, the policy's robot "
                f"{robot.name!r} has {list(robot.cameras)}; leave it out to get {plain.images}"
            )
        return (plain,)
    # Keys of the first count: ALOHA's are plain ones, with a camera more.
    return (own, plain)


def flattened(message: Mapping[str, Any], prefix: str = "", depth: int = 1) -> dict[str, Any]:
    """A message without maps in maps: their keys are joined by "/".

    Args:
        message: as it came.
        prefix: of all keys.
        depth: of this map, counted from 1 for a whole message.

    Raises:
        InputError: a key is no text, or comes twice, or there are maps in maps in maps without end.
    """
    if depth > _DEEPEST:
        raise InputError(f"expected at most {_DEEPEST} maps in one another, got more")
    found: dict[str, Any] = {}
    for key, value in message.items():
        if not isinstance(key, str):
            raise InputError(f"expected keys that are texts, got {key!r}")
        part = {f"{prefix}{key}": value}
        if isinstance(value, Mapping):
            part = flattened(value, f"{prefix}{key}/", depth + 1)
        if twice := found.keys() & part.keys():
            raise InputError(f"expected every key once, got {min(twice)!r} twice")
        found |= part
    return found
