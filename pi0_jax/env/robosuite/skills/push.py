"""Pushes an object over the table with both fingertips behind it."""

from collections.abc import Iterator

import numpy as np

from pi0_jax.env.robosuite.grasps import half_turn
from pi0_jax.env.robosuite.panda_robot import OPEN
from pi0_jax.env.robosuite.skills.hand import ARRIVED, PASSED
from pi0_jax.env.robosuite.skills.manner import UP, Manner, approach
from pi0_jax.env.robosuite.skills.scene import Scene

_LEAN = 0.45  # rad from pointing down: the hand is above the object, the fingertips behind it
_FINGERS = (0.03, 0.05)  # m to each side of the middle, where the open fingers are
_BEFORE, _TOUCHING = 0.02, 0.01  # m between fingers' middle and object, before and in the push
_ABOVE_TABLE = 0.011  # m from the table to the point between the pads, at least
_HEIGHT = 0.7  # the same, as a part of the object's height
_RISE = 0.1  # m that the hand rises at the end


def push(scene: Scene, manner: Manner, kind: str, goal: np.ndarray) -> Iterator[np.ndarray]:
    """Pushes the object `kind` until its origin is at `goal`, float64[3] m.

    Two open fingers hold a round object between them, so it cannot slip out to the side.
    """
    origin, points = scene.origin(kind), scene.points(kind)
    way = (goal - origin) * [1, 1, 0]
    ahead = way / max(float(np.linalg.norm(way)), 1e-9)
    behind = _behind(points - origin, ahead)
    # At right angles to the way, as the fingers of a hand at rest are to x.
    yaw = half_turn(float(np.arctan2(ahead[1], ahead[0])))
    hand = manner.hand(scene, yaw, _LEAN * np.cross(UP, ahead))
    height = float(points[:, 2].max()) - scene.top
    level = np.array([*origin[:2], scene.top + max(_ABOVE_TABLE, _HEIGHT * height)])
    start = level - (behind + _BEFORE) * ahead + manner.error
    # Along the leaning fingers: straight above may be a handle, or a shelf.
    above = start + manner.hover * (np.sin(_LEAN) * ahead + np.cos(_LEAN) * UP)
    yield from approach(scene, hand, above, OPEN, 0.0, scene.everything())
    yield from hand.reach(above, OPEN, 1.5 * ARRIVED)
    yield from hand.reach(start, OPEN, ARRIVED)
    yield from hand.reach(level + way - (behind + _TOUCHING) * ahead, OPEN, ARRIVED)
    yield from hand.reach(scene.arm.position + _RISE * UP, OPEN, PASSED)


def _behind(points: np.ndarray, ahead: np.ndarray) -> float:
    """How far [m] an object, float64[n, 3] m from its origin, reaches back where fingers touch."""
    beside = abs(points @ np.cross(UP, ahead))
    touched = points[(beside > _FINGERS[0]) & (beside < _FINGERS[1])]
    return float((touched @ -ahead).max())
