"""Pushes a flat object over the table with closed fingers."""

from collections.abc import Iterator

import numpy as np

from pi0_jax.env.robosuite.panda_robot import CLOSE
from pi0_jax.env.robosuite.skills.hand import ARRIVED, PASSED
from pi0_jax.env.robosuite.skills.manner import Manner, approach
from pi0_jax.env.robosuite.skills.scene import Scene

_INWARD = 0.025  # m from the rim to the fingertips
_PRESS = 0.008  # m that the fingertips are commanded to go below the rim's top
_RISE = 0.1  # m above the table where the hand ends


def push(scene: Scene, manner: Manner, kind: str, target: str) -> Iterator[np.ndarray]:
    """Pushes the object `kind` to the region `target`, with the fingertips inside its front rim.

    A contact in front of the middle is stable: the object follows, like a trailer.
    """
    points = scene.points(kind)
    way = (scene.place(target) - scene.origin(kind)) * [1, 1, 0]
    ahead = way / max(float(np.linalg.norm(way)), 1e-9)
    reach = ((points - scene.origin(kind)) @ ahead).max() - _INWARD
    start = scene.origin(kind) + reach * ahead + manner.error
    start[2] = points[:, 2].max() - _PRESS + manner.error[2]
    hand = manner.hand(scene, 0.0)
    above = start + np.array([0, 0, manner.hover])
    yield from approach(scene, hand, above, CLOSE, 0.0, scene.everything())
    yield from hand.reach(above, CLOSE, 1.5 * ARRIVED)
    yield from hand.reach(start, CLOSE, ARRIVED)
    yield from hand.reach(start + way, CLOSE, ARRIVED)
    yield from hand.reach(start + way + np.array([0, 0, _RISE]), CLOSE, PASSED)
