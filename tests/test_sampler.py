"""Which initial states come, and which groups count."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import episode

from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.episode import Group
from pi0_jax.rl.sampler import Sampler

TASKS = tuple(ScriptedTask(name=name) for name in "abc")


def group(*outcomes: int) -> Group:
    return Group(tuple(episode(2, [0], success=bool(outcome)) for outcome in outcomes))


def test_states_take_turns_over_tasks():
    states, sampler = Sampler(100).draw(TASKS, 5)
    assert [(task.name, seed) for task, seed in states] == [
        ("a", 100), ("b", 101), ("c", 102), ("a", 103), ("b", 104),
    ]  # fmt: skip
    states, _ = sampler.draw(TASKS, 2)
    assert [(task.name, seed) for task, seed in states] == [("c", 105), ("a", 106)]


@given(st.lists(st.integers(0, 7), max_size=6))
def test_any_portions_give_the_same_balanced_plan(portions):
    sampler, drawn = Sampler(3), []
    for portion in portions:
        states, sampler = sampler.draw(TASKS, portion)
        drawn += states
    assert drawn == Sampler(3).draw(TASKS, sum(portions))[0]
    counts = [sum(task.name == name for task, _ in drawn) for name in "abc"]
    assert max(counts) - min(counts) <= 1
    assert len({seed for _, seed in drawn}) == len(drawn)


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ([(1, 1, 1), (1, 1, 1)], []),
        ([(0, 0, 0)], []),
        ([(1, 0, 1), (0, 0, 1)], [0, 1]),
        ([(1, 1), (0, 1), (0, 0), (1, 0)], [1, 3]),
        ([], []),
    ],
)
def test_dynamic_sampling(groups, kept):
    groups = [group(*outcomes) for outcomes in groups]
    accepted, sampler = Sampler(0, drawn=4, accepted=2).accept(groups, dynamic=True)
    assert accepted == [groups[index] for index in kept]
    assert (sampler.drawn, sampler.accepted) == (4, 2 + len(kept))


def test_without_dynamic_sampling_every_group_counts():
    groups = [group(1, 1), group(0, 1), group(0, 0)]
    accepted, sampler = Sampler(0).accept(groups, dynamic=False)
    assert accepted == groups
    assert sampler.accepted == 3


@pytest.mark.parametrize("dynamic", [True, False])
def test_what_errors_left_of_a_group_may_be_too_little(dynamic):
    """One rollout has no baseline: the group is left out, whatever the rule."""
    accepted, _ = Sampler(0).accept([group(1)], dynamic)
    assert accepted == []


def test_a_resumed_sampler_goes_on():
    """It travels through a checkpoint's JSON."""
    _, sampler = Sampler(7).draw(TASKS, 4)
    _, sampler = sampler.accept([group(0, 1)], dynamic=True)
    again = Sampler(**dataclasses.asdict(sampler))
    assert again.draw(TASKS, 3) == sampler.draw(TASKS, 3)
    assert again == Sampler(7, drawn=4, accepted=1)
