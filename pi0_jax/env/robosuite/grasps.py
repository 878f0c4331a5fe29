"""Where an open gripper can grasp an object from above without touching anything else.

Shapes are point clouds that fill the collision boxes. A grasp is judged by the clearance of the
open fingers and the palm, both where the object is picked up and where it is placed.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import mujoco
import numpy as np

_SPACING = 0.012  # m, between neighbouring points of a box: less than a finger's thickness
# The open hand in its own frame (x, y along the fingers' way, z downwards), relative to the point
# between the pads: centres and half sizes [m] of two fingers, the palm and the wrist.
_HAND_CENTRES = np.array([[0, 0.048, -0.02], [0, -0.048, -0.02], [0, 0, -0.085], [0, 0, -0.2]])
_HAND_HALVES = np.array(
    [[0.011, 0.01, 0.032], [0.011, 0.01, 0.032], [0.032, 0.104, 0.04], [0.06, 0.06, 0.07]]
)
_ENOUGH = 0.02  # m of clearance; more is not better
_TURN_COST = 0.006  # m of clearance that a quarter turn is worth
_WIDTH_COST = 0.3  # m of clearance that a metre of the object's width is worth
_GRIP = 0.072  # m, the widest thing that the fingers (0.08 apart) are put around
_SLICE = 0.012  # m, half of the height that the pads touch
_TALL = 0.05  # m: objects above it are held by the upper part
_BELOW_TOP = 0.035  # m from a tall object's top to the pads' centre
_ABOVE_CENTRE = 0.005  # m from a flat object's centre to the pads' centre
_BELOW_RIM = 0.020  # m from the top of a rim to the pads' centre
_RIM_INWARD = 0.004  # m from the outermost points of the rim to the middle of its wall
# Kinds that are held by the rim, which is wider than the hand, and the height [m] of a rim: it
# leaves out a mug's handle. A bowl may be tilted, and has no handle.
_RIMMED = {"bowl": np.inf, "mug": 0.01}


@dataclass(frozen=True)
class Grasp:
    """A hand that points straight down.

    Attributes:
        position: float64[3], m: the point between the finger pads, world frame.
        yaw: rad, turn about the world's vertical from the hand at rest, in (-pi/2, pi/2].
    """

    position: np.ndarray
    yaw: float


def box_points(model: mujoco.MjModel, data: mujoco.MjData, geoms: list[int]) -> np.ndarray:
    """float64[n, 3], m: points that fill the bounding boxes of geoms, world frame."""
    clouds = [np.zeros((0, 3))]
    for geom in geoms:
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        # At least the two corners per axis, however thin the box is.
        axes = [np.linspace(-h, h, 2 + int(2 * h / _SPACING)) for h in half]
        grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3) + centre
        clouds.append(grid @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(clouds)


def choose(kind: str, points: np.ndarray, others: np.ndarray, shift: np.ndarray) -> Grasp:
    """The grasp with the largest clearance, preferring little turning and a narrow grip.

    Args:
        kind: LIBERO's name of the object.
        points: float64[n, 3], m: points that fill the object.
        others: float64[m, 3], m: points that fill everything that the hand must not touch.
        shift: float64[3], m: from where the object is to where it is placed.
    """
    rims = [height for word, height in _RIMMED.items() if word in kind]
    candidates = _rim_grasps(points, rims[0]) if rims else _pinch_grasps(points)
    # Points more than 0.3 m away cannot touch the hand. The surroundings of the place are moved
    # back to the object, so that the same grasp is tested in both.
    near = others[np.linalg.norm((others - points.mean(0))[:, :2], axis=1) < 0.3]
    goal = points.mean(0) + shift
    there = others[np.linalg.norm((others - goal)[:, :2], axis=1) < 0.3] - shift

    def score(candidate: tuple[Grasp, float]) -> float:
        """Clearance [m], minus a cost for turning and for a wide opening."""
        grasp, width = candidate
        # Capped: beyond `_ENOUGH`, little turning matters more than more room.
        free = min(clearance(grasp, near), clearance(grasp, there), _ENOUGH)
        return free - _TURN_COST * abs(grasp.yaw) / (np.pi / 2) - _WIDTH_COST * width

    return max(candidates, key=score)[0]


def _rim_grasps(points: np.ndarray, height: float) -> list[tuple[Grasp, float]]:
    """One finger inside a bowl or mug and one outside, in 24 directions from its middle."""
    rim = points[points[:, 2] >= points[:, 2].max() - height]
    middle = (rim.min(0) + rim.max(0)) / 2
    found = []
    for angle in np.arange(24) * (np.pi / 12):
        out = np.array([np.cos(angle), np.sin(angle)])
        along = (rim - middle)[:, :2] @ out
        aside = (rim - middle)[:, :2] @ np.array([-out[1], out[0]])
        # The slice in this direction, from the middle outwards; a mug that lies has gaps.
        strip = rim[(abs(aside) < _SPACING) & (along > 0)]
        if len(strip):
            reach = ((strip - middle)[:, :2] @ out).max() - _RIM_INWARD
            position = np.array([*(middle[:2] + reach * out), strip[:, 2].max() - _BELOW_RIM])
            found.append((Grasp(position, half_turn(angle - np.pi / 2)), 0.0))
    return found or _rim_grasps(points, np.inf)


def _pinch_grasps(points: np.ndarray) -> list[tuple[Grasp, float]]:
    """Both fingers around the object, in 24 directions; with the object's width [m] between."""
    low, high = points.min(0)[2], points.max(0)[2]
    height = high - _BELOW_TOP if high - low > _TALL else (low + high) / 2 + _ABOVE_CENTRE
    # Only the part between the pads decides about the width: a handle higher up may be wider.
    level = points[abs(points[:, 2] - height) < max(_SLICE, _ABOVE_CENTRE + (high - low) / 4)]
    found = []
    for yaw in np.arange(-11, 13) * (np.pi / 24):
        # The fingers of the hand at rest move along the world's y.
        axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        # [n, 2]: across the fingers, and along their way.
        extent = level[:, :2] @ axes.T
        low_end, high_end = extent.min(0), extent.max(0)
        position = np.array([*((low_end + high_end) / 2 @ axes), height])
        found.append((Grasp(position, yaw), high_end[1] - low_end[1]))
    # If every direction is too wide, the best of them is tried all the same.
    return [one for one in found if one[1] < _GRIP] or found


def clearance(grasp: Grasp, points: np.ndarray) -> float:
    """Distance [m] of the open hand to the nearest point; negative if that lies within it."""
    cos, sin = np.cos(grasp.yaw), np.sin(grasp.yaw)
    # Columns are the hand's axes; its mirror image does, as the hand is symmetric.
    local = (points - grasp.position) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, -1]])
    # How far a point lies outside each box, per axis: [n, box, 3]. Outside a box the distance is
    # the length of the positive parts, inside it is the largest (least negative) one.
    apart = local[:, None] - _HAND_CENTRES
    # The hand comes from above: what is above a box is met on the way.
    apart[..., 2] = np.maximum(apart[..., 2], 0)
    beyond = abs(apart) - _HAND_HALVES
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
    return float((outside + np.minimum(beyond.max(-1), 0)).min(initial=1.0))


def half_turn(angle: float) -> float:
    """The same angle up to half turns, in (-pi/2, pi/2]: the hand is symmetric."""
    return float(np.pi / 2 - (np.pi / 2 - angle) % np.pi)
