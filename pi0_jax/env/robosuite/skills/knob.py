"""Turns a knob by its grip."""

from collections.abc import Iterator

import numpy as np

from pi0_jax.env.robosuite.grasps import choose
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN
from pi0_jax.env.robosuite.skills.hand import ARRIVED, CLOSE_STEPS, OPEN_STEPS, PASSED
from pi0_jax.env.robosuite.skills.joint import Joint
from pi0_jax.env.robosuite.skills.manner import Manner, approach
from pi0_jax.env.robosuite.skills.scene import Scene

_GRIP = 0.025  # m: height of the part of a knob that the fingers take
_TURN = 1.0  # rad that the hand turns: a stove is on from 0.5 rad
_RISE = 0.1  # m above the knob where the hand ends


def turn_knob(scene: Scene, manner: Manner, knob: Joint, direction: float) -> Iterator[np.ndarray]:
    """Takes the knob from above and turns it: `direction` is 1 for on, -1 for off."""
    points = knob.points()
    bar = points[points[:, 2] > points[:, 2].max() - _GRIP]
    yaw = choose("knob", bar, np.zeros((0, 3)), np.zeros(3)).yaw
    middle = np.array([*knob.anchor[:2], points[:, 2].max() - _GRIP / 2]) + manner.error
    hand = manner.hand(scene, yaw)
    above = middle + np.array([0, 0, manner.hover])
    yield from approach(scene, hand, above, OPEN, 0.0, scene.everything())
    yield from hand.reach(above, OPEN, 1.5 * ARRIVED)
    yield from hand.reach(middle, OPEN, ARRIVED)
    yield from hand.stay(middle, CLOSE, CLOSE_STEPS)
    turned = manner.hand(scene, yaw + direction * _TURN * knob.way[2])
    yield from turned.reach(middle, CLOSE, ARRIVED)
    yield from turned.stay(middle, OPEN, OPEN_STEPS)
    yield from turned.reach(middle + np.array([0, 0, _RISE]), OPEN, PASSED)
