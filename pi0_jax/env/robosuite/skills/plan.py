"""Derives what to do from a task's goal: its predicates, in an order in which each stays true."""

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_jax.env.robosuite.skills.drawer import close_drawer, open_drawer
from pi0_jax.env.robosuite.skills.knob import turn_knob
from pi0_jax.env.robosuite.skills.manner import Manner
from pi0_jax.env.robosuite.skills.pick_and_place import pick_and_place
from pi0_jax.env.robosuite.skills.push import push
from pi0_jax.env.robosuite.skills.room import make_room, room_inside
from pi0_jax.env.robosuite.skills.scene import Scene

_LAST = ("close", "turnoff")  # what is put in has to be in before
_PUSHED = ("plate",)  # kinds that are too flat to be picked up
_SHARED = 0.064  # m between the places of two objects in one target


def fulfil(scene: Scene, manner: Manner) -> Iterator[np.ndarray]:
    """Makes each predicate of the goal true that is not, once."""
    goals = sorted(scene.goals, key=lambda predicate: predicate[0] in _LAST)
    for predicate in goals:
        if not scene.holds(predicate):
            yield from _fulfil(scene, manner, predicate)


def _fulfil(scene: Scene, manner: Manner, predicate: Sequence[str]) -> Iterator[np.ndarray]:
    relation, name, *target = predicate
    match relation:
        case "open":
            yield from open_drawer(scene, manner, scene.joint(name))
        case "close":
            yield from close_drawer(scene, manner, scene.joint(name))
        case "turnon" | "turnoff":
            direction = 1.0 if relation == "turnon" else -1.0
            yield from turn_knob(scene, manner, scene.joint(name), direction)
        case _ if any(word in name for word in _PUSHED):
            yield from push(scene, manner, name, scene.place(*target))
        case _:
            yield from _put(scene, manner, predicate)


def _put(scene: Scene, manner: Manner, predicate: Sequence[str]) -> Iterator[np.ndarray]:
    """Picks and places; a place in a drawer is opened first."""
    _, kind, target = predicate
    aside = _aside(scene, predicate)
    if scene.in_drawer(target):
        drawer = scene.joint(target)
        if not scene.holds(["open", target]):
            yield from make_room(scene, manner, kind, drawer)
            yield from open_drawer(scene, manner, drawer)
        aside = aside + room_inside(scene, kind, target, drawer)
    yield from pick_and_place(scene, manner, predicate, aside)


def _aside(scene: Scene, predicate: Sequence[str]) -> np.ndarray:
    """float64[3], m: the place of an object among those that share its target, side by side."""
    same = [goal for goal in scene.goals if goal[2:] == list(predicate[2:])]
    rank = same.index(list(predicate)) - (len(same) - 1) / 2
    return np.array([rank * _SHARED, 0.0, 0.0])
