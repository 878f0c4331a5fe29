"""Opens a drawer by its handle, and pushes it closed."""

from collections.abc import Iterator

import numpy as np

from pi0_jax.env.robosuite.grasps import half_turn
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN
from pi0_jax.env.robosuite.skills.hand import ARRIVED, CLOSE_STEPS, OPEN_STEPS, PASSED, Hand
from pi0_jax.env.robosuite.skills.joint import Joint
from pi0_jax.env.robosuite.skills.manner import UP, Manner, approach
from pi0_jax.env.robosuite.skills.scene import Scene

_GRIP_LEAN = 1.3  # rad from pointing down: fingers above and below the bar, palm above the table
_PUSH_LEAN = 0.8  # rad: the wrist is in front of the cabinet when the drawer is closed
_BEFORE = 0.08  # m in front of the handle where the hand stops on its way
_BELOW = 0.09  # m that a leaning hand reaches below the point between its pads
_BEYOND = 0.02  # m that a pull or push goes on after the end of the way


def open_drawer(scene: Scene, manner: Manner, drawer: Joint) -> Iterator[np.ndarray]:
    """Takes the handle's bar between the fingers and pulls."""
    way, bar = drawer.way, drawer.handle() + manner.error
    hand = manner.hand(scene, _across(way), _GRIP_LEAN * np.cross(UP, way))
    yield from _in_front(scene, hand, bar + _BEFORE * way, OPEN)
    yield from hand.reach(bar, OPEN, ARRIVED)
    yield from hand.stay(bar, CLOSE, CLOSE_STEPS)
    out = bar + (drawer.travel - drawer.value + _BEYOND) * way
    yield from hand.reach(out, CLOSE, ARRIVED)
    here = scene.arm.position
    yield from hand.stay(here, OPEN, OPEN_STEPS)
    yield from hand.reach(here + _BEFORE * way, OPEN, PASSED)
    # A leaning arm that turns elsewhere with its hand far out meets its joint limits.
    upright = manner.hand(scene, 0.0)
    yield from upright.reach((scene.arm.position + scene.home) / 2, OPEN, PASSED)


def close_drawer(scene: Scene, manner: Manner, drawer: Joint) -> Iterator[np.ndarray]:
    """Pushes the handle with closed fingers."""
    way, bar = drawer.way, drawer.handle() + manner.error
    hand = manner.hand(scene, _along(way), _PUSH_LEAN * np.cross(UP, way))
    yield from _in_front(scene, hand, bar + _BEFORE * way, CLOSE)
    yield from hand.reach(bar - (drawer.value + _BEYOND) * way, CLOSE, ARRIVED)
    yield from hand.reach(scene.arm.position + _BEFORE * way, CLOSE, PASSED)


def _in_front(scene: Scene, hand: Hand, place: np.ndarray, gripper: float) -> Iterator[np.ndarray]:
    """Brings a leaning hand to a place in front of the handle, over everything on its way."""
    yield from approach(scene, hand, place, gripper, _BELOW, scene.everything())
    yield from hand.reach(place, gripper, 1.5 * ARRIVED)


def _across(way: np.ndarray) -> float:
    """Yaw [rad] with which the fingers of a hand at rest, which move along y, move along `way`."""
    return half_turn(float(np.arctan2(-way[0], way[1])))


def _along(way: np.ndarray) -> float:
    """Yaw [rad] with which the fingers move at right angles to `way`."""
    return half_turn(_across(way) + np.pi / 2)
