"""Makes room for the hand beside an open drawer, and finds the room inside it."""

from collections.abc import Iterator

import numpy as np

from pi0_jax.env.robosuite.grasps import choose, clearance
from pi0_jax.env.robosuite.skills.joint import Joint
from pi0_jax.env.robosuite.skills.manner import UP, Manner
from pi0_jax.env.robosuite.skills.push import push
from pi0_jax.env.robosuite.skills.scene import Scene

_LENGTHS = np.arange(0.03, 0.15, 0.01)  # m, the pushes that are considered
_DIRECTIONS = 24  # the same, per full turn
_FREE, _APART = 0.01, 0.005  # m around the hand, and around a round object, that are enough
_NEAR = 0.35  # m around the object in which anything matters


def make_room(scene: Scene, manner: Manner, kind: str, drawer: Joint) -> Iterator[np.ndarray]:
    """Pushes the object `kind` as little as is needed to pick it up beside the open drawer."""
    opened = drawer.points() + (drawer.travel - drawer.value) * drawer.way
    others = np.concatenate([scene.others(kind), opened])
    points = scene.points(kind)
    near = np.linalg.norm((others - points.mean(0))[:, :2], axis=1) < _NEAR
    for step in _steps(drawer.way):
        if _is_free(kind, points + step, others[near]):
            if step.any():
                yield from push(scene, manner, kind, scene.origin(kind) + step)
            return


def _steps(way: np.ndarray) -> list[np.ndarray]:
    """Ways to push, float64[3] m each: none, then short ones first, and first along `way`."""
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    turns = np.arctan2(way[1], way[0]) + np.where(angles > np.pi, angles - 2 * np.pi, angles)
    turns = turns[np.argsort(abs(turns - turns[0]), kind="stable")]
    rays = np.stack([np.cos(turns), np.sin(turns), np.zeros(_DIRECTIONS)], axis=1)
    return [np.zeros(3), *(length * ray for length in _LENGTHS for ray in rays)]


def _is_free(kind: str, points: np.ndarray, others: np.ndarray) -> bool:
    """Whether an object touches nothing and can be picked up; both float64[n, 3] m."""
    low, high = points.min(0), points.max(0)
    middle, radius = (low + high)[:2] / 2, (high - low)[:2].max() / 2
    # What is above the object is in the way when it is lifted; a table is not among the others.
    level = others[others[:, 2] > low[2]]
    if np.linalg.norm(level[:, :2] - middle, axis=1).min(initial=1.0) < radius + _APART:
        return False
    grasp = choose(kind, points, others, np.zeros(3))
    return clearance(grasp, others) > _FREE


def room_inside(scene: Scene, kind: str, target: str, drawer: Joint) -> np.ndarray:
    """float64[3], m: from the middle of an open drawer to the middle of what is free above it.

    Handles of the drawers above stand out over its rear.
    """
    middle, others = scene.place(target), scene.others(kind)
    size = np.ptp(scene.points(kind)[:, :2], axis=0).max()
    aside = abs((others - middle) @ np.cross(UP, drawer.way))
    beside = others[(others[:, 2] > middle[2]) & (aside < size / 2)]
    along = (beside - middle) @ drawer.way
    low, high = along[along < 0].max(initial=-size), along[along > 0].min(initial=size)
    return (low + high) / 2 * drawer.way
