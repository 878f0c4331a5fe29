"""Whether the numbers of a data set mean what a robot's numbers mean.

Widths alone do not tell degrees from radians, or a gripper that closes at 0 from one that closes at
1; ranges and names do, nearly always. Who knows better lets a finding pass.

Axis letters: t control step of all episodes, s state dimension, e action dimension.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_jax.data.chunk_stats import STATE_FLOOR
from pi0_jax.data.lerobot.findings import (
    GRIPPER,
    LIMITS,
    NAMES,
    RATE,
    STILL,
    UNITS,
    WIDTHS,
    Finding,
)
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.robot import Dimension, Robot

_ROUNDING = 0.01  # of the range between the limits
_MEASURED = 0.1  # states may pass a limit by so much of the range
_TURNS = 2 * np.pi + 0.5  # rad; joints that turn further are rare
_QUARTER = 0.25
_ENOUGH = 200  # steps below which a correlation is chance
# Words in names of dimensions that tell two kinds of control apart.
_JOINTS = ("joint", "waist", "shoulder", "elbow", "forearm", "motor")
_HAND = ("x", "y", "z", "roll", "pitch", "yaw", "axis_angle", "eef", "quat")
_SIDES = ("left", "right")


def check_numbers(
    recordings: Sequence[Recording], folder: Robot, robot: Robot | None
) -> list[Finding]:
    """What is strange about states and actions.

    Args:
        recordings: episodes, at least one.
        folder: the robot as the folder describes it.
        robot: the robot that they should be of; None to compare with nothing.
    """
    if robot is not None and (wrong := list(_widths(recordings, robot))):
        return wrong
    expected = robot or folder
    if wrong := list(_widths(recordings, expected)):
        return wrong
    state = np.concatenate([recording.state for recording in recordings])
    actions = np.concatenate([recording.actions for recording in recordings])
    found = []
    for kind, values, dimensions, tolerance in (
        ("state", state, expected.state, _MEASURED),
        ("action", actions, expected.actions, _ROUNDING),
    ):
        found += _limits(kind, values, dimensions, tolerance)
        found += _units(kind, values, dimensions)
        found += _still(kind, values, dimensions)
    found += _gripper(expected, actions)
    if robot is not None:
        found += [*_fingers(recordings, robot), *_names(folder, robot), *_rate(folder, robot)]
    return found


def _widths(recordings: Sequence[Recording], robot: Robot) -> Iterator[Finding]:
    wanted = ((len(robot.state),), (len(robot.actions),))
    for recording in recordings:
        found = recording.state.shape[1:], recording.actions.shape[1:]
        if found != wanted:
            yield Finding(
                WIDTHS,
                f"episode {recording.number}: expected states of {len(robot.state)} and actions of "
                f"{len(robot.actions)} dimensions, as {robot.name} has, got {found[0]} and "
                f"{found[1]}",
            )
            return


def _limits(
    kind: str, values: np.ndarray, dimensions: Sequence[Dimension], tolerance: float
) -> Iterator[Finding]:
    for own, one in zip(values.T, dimensions, strict=True):
        if one.low is None or one.high is None:
            continue
        slack = tolerance * (one.high - one.low)
        outside = (own < one.low - slack) | (own > one.high + slack)
        if outside.any():
            yield Finding(
                LIMITS,
                f"{kind} {one.name} goes from {own.min():.4g} to {own.max():.4g}, the robot's "
                f"limits are {one.low:g} to {one.high:g}{_unit(one)} ({outside.mean():.1%} of the "
                "steps lie outside)",
            )


def _units(kind: str, values: np.ndarray, dimensions: Sequence[Dimension]) -> Iterator[Finding]:
    largest = np.abs(values).max(0)
    for size, one in zip(largest, dimensions, strict=True):
        if one.unit == "rad" and size > _TURNS:
            yield Finding(
                UNITS, f"{kind} {one.name} reaches {size:.4g} and is in rad: is it in degrees?"
            )
    degrees = [i for i, one in enumerate(dimensions) if one.unit == "deg"]
    if degrees and values[:, degrees].std() > 0 and largest[degrees].max() < _TURNS:
        yield Finding(
            UNITS,
            f"no {kind} in degrees reaches more than {largest[degrees].max():.3g}: is it in rad?",
        )


def _still(kind: str, values: np.ndarray, dimensions: Sequence[Dimension]) -> Iterator[Finding]:
    for own, one in zip(values.T, dimensions, strict=True):
        if (std := own.std(dtype=np.float64)) < STATE_FLOOR:
            yield Finding(
                STILL, f"{kind} {one.name} hardly moves: standard deviation {std:.2g}{_unit(one)}"
            )


def _gripper(robot: Robot, actions: np.ndarray) -> Iterator[Finding]:
    """A gripper that has two signs shows both, if it ever opens and closes."""
    closes = robot.gripper == "high_closes"
    for own, one in zip(actions.T, robot.actions, strict=True):
        if "gripper" not in one.name or robot.gripper in ("unknown", "none"):
            continue
        if one.low is None or one.high is None or not one.low < 0 < one.high:
            continue
        quarter = _QUARTER * (one.high - one.low)
        if own.min() > one.low + quarter or own.max() < one.high - quarter:
            low, high = ("open", "close") if closes else ("close", "open")
            yield Finding(
                GRIPPER,
                f"action {one.name} goes from {own.min():.3g} to {own.max():.3g}, the robot's "
                f"gripper has {one.low:g} to {low} and {one.high:g} to {high}: another convention?",
            )


def _fingers(recordings: Sequence[Recording], robot: Robot) -> Iterator[Finding]:
    """Whether fingers go apart where the gripper's action says that they do."""
    fingers = [i for i, d in enumerate(robot.state) if "finger" in d.name and "right" not in d.name]
    grippers = [i for i, d in enumerate(robot.actions) if "gripper" in d.name]
    if len(fingers) != 1 or len(grippers) != 1 or robot.gripper in ("unknown", "none"):
        return
    pairs = [
        (recording.actions[:-1, grippers[0]], np.diff(recording.state[:, fingers[0]]))
        for recording in recordings
    ]
    action, motion = (np.concatenate(part).astype(float) for part in zip(*pairs, strict=True))
    if len(action) < _ENOUGH or action.std() == 0 or motion.std() == 0:
        return
    together = float(np.corrcoef(action, motion)[0, 1])
    # Fingers that open move to larger values.
    opens = together if robot.gripper == "high_opens" else -together
    if opens < -0.2:
        name = robot.actions[grippers[0]].name
        yield Finding(
            GRIPPER,
            f"the fingers open where action {name} is low and close where it is high"
            if together < 0
            else f"the fingers open where action {name} is high and close where it is low, and the "
            "robot's gripper does the opposite",
        )


def _names(folder: Robot, robot: Robot) -> Iterator[Finding]:
    for kind in ("state", "actions"):
        theirs, ours = ([_plain(d.name) for d in getattr(one, kind)] for one in (folder, robot))
        if sorted(theirs) == sorted(ours) and theirs != ours:
            yield Finding(
                NAMES, f"{kind} are in another order: {', '.join(theirs)}; the robot has "
                f"{', '.join(ours)}"
            )  # fmt: skip
            continue
        for own, wanted in zip(theirs, ours, strict=True):
            if _other_kind(own, wanted):
                yield Finding(
                    NAMES,
                    f"{kind} are {', '.join(theirs)}; those of robot {robot.name} are "
                    f"{', '.join(ours)}",
                )
                break


def _plain(name: str) -> str:
    """A name without what LeRobot's drivers put around it: "main_shoulder_pan.pos"."""
    return name.lower().removeprefix("main_").removesuffix(".pos").removesuffix(".vel")


def _other_kind(one: str, other: str) -> bool:
    """Whether a joint stands against a coordinate, or left against right."""
    if {*map(_is_joint, (one, other))} == {True, False} and (_is_hand(one) or _is_hand(other)):
        return True
    sides = [{side for side in _SIDES if side in name} for name in (one, other)]
    return all(sides) and sides[0] != sides[1]


def _is_joint(name: str) -> bool:
    return any(word in name for word in _JOINTS)


def _is_hand(name: str) -> bool:
    return any(name == word or (len(word) > 1 and word in name) for word in _HAND)


def _rate(folder: Robot, robot: Robot) -> Iterator[Finding]:
    if robot.control_hz and folder.control_hz and robot.control_hz != folder.control_hz:
        yield Finding(
            RATE,
            f"{folder.control_hz:g} steps per second, and robot {robot.name} has "
            f"{robot.control_hz:g}: a policy acts as fast as its data",
        )


def _unit(dimension: Dimension) -> str:
    return f" {dimension.unit}" if dimension.unit else ""
