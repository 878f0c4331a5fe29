"""What a robot observes and which actions it takes: shared by tasks, policies and data.

Axis letters: s state dimension, e action dimension, c camera.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_jax.errors import InputError, check_choices
from pi0_jax.plain_values import build

# The network's cameras, as openpi names them; their order is that of its image tokens.
VIEWS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
# Conventions of the gripper's action; two robots with different ones cannot share a policy.
GRIPPERS = ("unknown", "none", "high_closes", "high_opens")


@dataclass(frozen=True)
class Dimension:
    """One number of a state or of an action.

    Attributes:
        name: such as "x" or "left_wrist".
        unit: such as "m" or "rad"; empty for a number without a unit.
        low: smallest value that may be sent to the robot; None for no limit.
        high: largest value that may be sent to the robot; None for no limit.
    """

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Checks the limits.

        Raises:
            InputError: low is above high, or one is no number.
        """
        for limit in (self.low, self.high):
            if limit is not None and (isinstance(limit, str | bool) or limit != limit):
                raise InputError(f"dimension {self.name!r}: limit {limit!r} is no number")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"dimension {self.name!r}: low {self.low} is above high {self.high}")


@dataclass(frozen=True)
class Robot:
    """The properties of a robot that a policy depends on.

    Attributes:
        name: such as "libero_panda".
        cameras: c names, in the order of `RawObs.images`.
        state: s dimensions of proprioception.
        actions: e dimensions, with their limits.
        gripper: what a high value of the gripper's action does: "high_closes" (robosuite: 1
            closes), "high_opens" (ALOHA: 1 opens), "none" (there is no gripper), "unknown".
        control_hz: control steps per second; None if unknown.
        masked_cameras: cameras of the network that this robot does not have. They cost nothing.
        views: per camera, which of the network's cameras (`VIEWS`) it is; empty where its name
            says it (`data/cameras.py`).
        reset_pose: state in which an episode begins, one number per dimension; empty if unknown.
    """

    name: str
    cameras: tuple[str, ...]
    state: tuple[Dimension, ...]
    actions: tuple[Dimension, ...]
    gripper: str = "unknown"
    control_hz: float | None = None
    masked_cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    reset_pose: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks names.

        Raises:
            InputError: a camera or a dimension is named twice or not at all, there is no camera or
                no action, the gripper is unknown, the control rate is none, or a value is of
                another type.
        """
        check_choices("robot", self, {"gripper": GRIPPERS})
        self._check_types()
        if self.control_hz is not None and not 0 < self.control_hz < math.inf:
            raise InputError(
                f"robot {self.name!r}: control_hz must be above 0, got {self.control_hz!r}"
            )
        if not self.cameras or not self.actions:
            raise InputError(f"robot {self.name!r}: expected at least one camera and one action")
        named = {
            "camera": (*self.cameras, *self.masked_cameras),
            "state": tuple(d.name for d in self.state),
            "action": tuple(d.name for d in self.actions),
        }
        for kind, names in named.items():
            if len(set(names)) < len(names) or "" in names:
                raise InputError(f"robot {self.name!r}: every {kind} needs its own name: {names}")
        self._check_views()
        if self.reset_pose and len(self.reset_pose) != len(self.state):
            raise InputError(
                f"robot {self.name!r}: reset_pose has {len(self.reset_pose)} numbers, expected one "
                f"for each of the {len(self.state)} values of state"
            )

    def _check_views(self) -> None:
        # In the network's order, because the order of the cameras is all that a network sees.
        if not self.views:
            return
        ordered = [view for view in VIEWS if view in self.views]
        if list(self.views) != ordered or len(self.views) != len(self.cameras):
            raise InputError(
                f"robot {self.name!r}: views must be one of {', '.join(VIEWS)} for each of the "
                f"cameras {', '.join(self.cameras)}, in this order, got {list(self.views)}"
            )

    def _check_types(self) -> None:
        # A forgotten comma makes a string of a tuple, and its letters would be cameras.
        for kind in ("cameras", "masked_cameras", "views", "state", "actions"):
            if isinstance(getattr(self, kind), str):
                raise InputError(
                    f"robot {self.name!r}: {kind} must be a tuple, got the string "
                    f"{getattr(self, kind)!r}"
                )
        for kind, dimension in (
            *(("state", d) for d in self.state),
            *(("actions", d) for d in self.actions),
        ):
            if not isinstance(dimension, Dimension):
                raise InputError(
                    f"robot {self.name!r}: {kind} must hold Dimension, got {dimension!r}; "
                    "`named` makes them of names"
                )

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Clips actions float[..., e] to the limits, in dimensions that have limits."""
        low = [-np.inf if d.low is None else d.low for d in self.actions]
        high = [np.inf if d.high is None else d.high for d in self.actions]
        # Limits in the dtype of the actions: float64 limits would turn float32 into float64.
        return np.clip(actions, np.array(low, actions.dtype), np.array(high, actions.dtype))


def robot_from_dict(values: Mapping[str, Any]) -> Robot:
    """Inverse of `dataclasses.asdict(robot)`, also after a JSON file has turned tuples into lists.

    Raises:
        InputError: a key is missing or unknown, or a value is wrong.
    """
    return build("robot", Robot, values)


def numbered(kind: str, count: int) -> tuple[Dimension, ...]:
    """`count` dimensions whose meaning is unknown, named kind_0, kind_1, ..."""
    return tuple(Dimension(f"{kind}_{i}") for i in range(count))


def named(names: Sequence[str], unit: str, limit: float | None = None) -> tuple[Dimension, ...]:
    """Dimensions with these names and one unit, between -limit and limit; None for no limit."""
    low = None if limit is None else -limit
    return tuple(Dimension(name, unit, low, limit) for name in names)
