"""The plan of a task follows from its goal: which skill, in which order, and what is left out."""

import numpy as np
import pytest

from pi0_jax.env.robosuite.skills import plan
from pi0_jax.env.robosuite.skills.manner import Manner

MANNER = Manner(1.0, np.zeros(3), 0.07)
DRAWER, BOWL = "cabinet_1_top_region", "akita_black_bowl_1"


class Room:
    """A scene of words: which predicates hold, and which regions are inside drawers."""

    def __init__(self, goals, true=(), drawers=()):
        self.goals, self._true, self._drawers = goals, [list(one) for one in true], drawers

    def holds(self, predicate):
        return list(predicate) in self._true

    def in_drawer(self, name):
        return name in self._drawers

    def joint(self, name):
        return name

    def place(self, name):
        return name


@pytest.fixture
def done(monkeypatch):
    """What the skills were asked to do, in order; each is one action."""
    calls = []

    def skill(name):
        def acts(scene, manner, *wanted):
            calls.append((name, *wanted))
            yield np.zeros(7)

        return acts

    for name in ("open_drawer", "close_drawer", "turn_knob", "push", "make_room"):
        monkeypatch.setattr(plan, name, skill(name))
    monkeypatch.setattr(plan, "pick_and_place", skill("pick_and_place"))
    monkeypatch.setattr(plan, "room_inside", lambda *_: np.array([0, 0.02, 0]))
    return calls


def fulfilled(scene):
    return list(plan.fulfil(scene, MANNER))


def test_a_drawer_is_closed_after_something_was_put_into_it(done):
    goals = [["close", DRAWER], ["in", BOWL, DRAWER]]
    fulfilled(Room(goals, true=[["open", DRAWER]], drawers=[DRAWER]))
    assert [name for name, *_ in done] == ["pick_and_place", "close_drawer"]
    np.testing.assert_array_equal(done[0][2], [0, 0.02, 0])


def test_a_closed_drawer_is_opened_first_though_no_goal_says_so(done):
    fulfilled(Room([["in", BOWL, DRAWER]], drawers=[DRAWER]))
    assert [name for name, *_ in done] == ["make_room", "open_drawer", "pick_and_place"]
    assert done[0][1:] == (BOWL, DRAWER)


def test_what_holds_already_is_left_alone(done):
    goals = [["turnon", "flat_stove_1"], ["on", "moka_pot_1", "cook_region"]]
    actions = fulfilled(Room(goals, true=[goals[0]]))
    assert [name for name, *_ in done] == ["pick_and_place"]
    assert len(actions) == 1


def test_a_knob_turns_both_ways_and_a_plate_is_pushed(done):
    fulfilled(Room([["turnoff", "stove"], ["turnon", "stove"], ["on", "plate_1", "front"]]))
    assert done == [
        ("turn_knob", "stove", 1.0),
        ("push", "plate_1", "front"),
        ("turn_knob", "stove", -1.0),
    ]


def test_two_objects_of_one_basket_lie_side_by_side(done):
    fulfilled(Room([["in", "soup_1", "basket"], ["in", "milk_1", "basket"], ["on", BOWL, "x"]]))
    asides = [aside[0] for *_, aside in done]
    assert asides[0] == -asides[1] != 0
    assert asides[2] == 0
