"""Picks up an object and places it in or on something; there is no second try."""

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_jax.env.robosuite.grasps import choose
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN
from pi0_jax.env.robosuite.skills.hand import ARRIVED, CLOSE_STEPS, OPEN_STEPS, PASSED, Hand
from pi0_jax.env.robosuite.skills.manner import LIFT, Manner, approach
from pi0_jax.env.robosuite.skills.scene import Scene

_SLIPPED = 0.03  # m that a held object may have moved in the hand
_REST_STEPS = 10
_GAP = 0.015  # m that an object falls when it is released
_WALLED_GAP = {"basket": 0.09, "bowl": 0.05}  # m, the same inside walls, which block the fingers
_BESIDE = 0.03  # m around the middle of a place where it supports what is placed


class Placing:
    """One object and the place for it.

    Args:
        scene: the scene.
        predicate: what shall hold: "on" or "in", the object, and the region or object below it.
        aside: float64[3], m: from the middle of the target to the middle of the place.
    """

    def __init__(self, scene: Scene, predicate: Sequence[str], aside: np.ndarray) -> None:
        relation, self.kind, self._target = predicate
        self._scene, self._aside = scene, aside
        self.others = scene.others(self.kind)
        goal = self.goal
        near = np.linalg.norm((self.others - goal)[:, :2], axis=1) < _BESIDE
        # What is above the middle of a region, such as the drawer above a drawer, is no support.
        if relation == "in":
            near &= self.others[:, 2] < goal[2]
        gaps = [gap for word, gap in _WALLED_GAP.items() if word in self._target]
        support = self.others[near][:, 2].max(initial=scene.top)
        self.release: float = support + (gaps[0] if gaps else _GAP)

    @property
    def position(self) -> np.ndarray:
        """float64[3], m: the object's origin."""
        return self._scene.origin(self.kind)

    @property
    def goal(self) -> np.ndarray:
        """float64[3], m: where the object's origin belongs; the height is that of the target."""
        return self._scene.place(self._target) + self._aside

    def points(self) -> np.ndarray:
        """float64[n, 3], m: points that fill the object."""
        return self._scene.points(self.kind)

    def bottom(self) -> float:
        """Height [m] of the object's lowest point."""
        return float(self.points()[:, 2].min())


def pick_and_place(
    scene: Scene, manner: Manner, predicate: Sequence[str], aside: np.ndarray
) -> Iterator[np.ndarray]:
    """Picks up an object and places it; arguments as in `Placing`."""
    placing = Placing(scene, predicate, aside)
    shift = np.array([*(placing.goal - placing.position)[:2], placing.release - placing.bottom()])
    grasp = choose(placing.kind, placing.points(), placing.others, shift)
    hand = manner.hand(scene, grasp.yaw)
    place = grasp.position + manner.error
    yield from _pick(scene, hand, place, manner.hover, placing.others)
    yield from _carry(scene, hand, place, shift, placing)


def _pick(
    scene: Scene, hand: Hand, place: np.ndarray, hover: float, others: np.ndarray
) -> Iterator[np.ndarray]:
    """Moves above the grasp point, then down, and closes the fingers."""
    above = place + np.array([0, 0, hover])
    yield from approach(scene, hand, above, OPEN, 0.0, others)
    yield from hand.reach(above, OPEN, 1.5 * ARRIVED)
    yield from hand.reach(place, OPEN, ARRIVED)
    yield from hand.stay(place, CLOSE, CLOSE_STEPS)


def _carry(
    scene: Scene, hand: Hand, place: np.ndarray, shift: np.ndarray, placing: Placing
) -> Iterator[np.ndarray]:
    """Lifts the object, carries it, lowers it and opens the fingers."""
    hang = place[2] - placing.bottom()
    safe = scene.highest(placing.others, place, place + shift) + hang + LIFT
    offset = scene.arm.position - placing.position
    yield from hand.reach(np.array([*place[:2], safe]), CLOSE, PASSED)
    over = np.array([*(placing.goal + offset)[:2], safe])
    yield from hand.reach(over, CLOSE, ARRIVED)
    now = scene.arm.position - placing.position
    # If the object was not picked up, the moves go on as planned: there is no second try.
    if np.linalg.norm(now - offset) < _SLIPPED:
        hang = scene.arm.position[2] - placing.bottom()
        over[:2] = (placing.goal + now)[:2]
    low = np.array([*over[:2], placing.release + hang])
    high = low + np.array([0, 0, 0.1])
    yield from hand.reach(low, CLOSE, ARRIVED)
    yield from hand.stay(low, OPEN, OPEN_STEPS)
    yield from hand.reach(high, OPEN, PASSED)
    yield from hand.stay(high, OPEN, _REST_STEPS)
