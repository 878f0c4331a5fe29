"""Which initial states come, which groups count, and what is remembered of solved states."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import episode

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.episode import Group
from pi0_jax.errors import InputError
from pi0_jax.rl.init_states import GroupConfig, InitStateSchedule, informative_groups

TASKS = tuple(ScriptedTask(name=name) for name in "abc")
ENDLESS = GroupConfig(group_size=2, groups_per_iteration=2, max_groups=9, first_seed=0)
FOUR = dataclasses.replace(ENDLESS, num_states=4)


def config(**changes) -> GroupConfig:
    return dataclasses.replace(ENDLESS, **changes)


def group(*outcomes: int) -> Group:
    return Group(tuple(episode(2, [0], success=bool(outcome)) for outcome in outcomes))


def ended(task: str, seed: int, outcomes: str) -> Group:
    """A group of rollouts from one state."""
    return Group(tuple(episode(2, [0], seed=seed, task=task, success=o == "1") for o in outcomes))


def names(groups) -> list[tuple[str, int]]:
    """Task and seed of every start."""
    return [(start.task.name, start.seed) for starts in groups for start in starts]


def test_demonstrated_states_are_those_of_the_demonstrations():
    """Eight demonstrations of three tasks that took turns: two whole turns are tried."""
    of_demos = config(states="demonstrations", num_states=8 // 3)
    groups, _, sampler = InitStateSchedule(40).next_groups(TASKS, 6, of_demos)
    jobs = Suite("three", TASKS, DemonstratorConfig()).demonstrations(range(40, 46))
    assert set(names(groups)) == {(job.task.name, job.args[0]) for job in jobs}
    again, _, _ = sampler.next_groups(TASKS, 6, of_demos)
    assert set(names(again)) == set(names(groups))


def test_states_take_turns_over_tasks():
    groups, skipped, sampler = InitStateSchedule(100).next_groups(TASKS, 5, ENDLESS)
    assert names(groups) == [("a", 100), ("b", 101), ("c", 102), ("a", 103), ("b", 104)]
    assert skipped == 0
    assert names(sampler.next_groups(TASKS, 2, ENDLESS)[0]) == [("c", 105), ("a", 106)]


@given(st.lists(st.integers(0, 7), max_size=6), st.sampled_from([ENDLESS, FOUR]))
def test_any_portions_give_the_same_balanced_plan(portions, config):
    sampler, drawn = InitStateSchedule(3), []
    for portion in portions:
        groups, _, sampler = sampler.next_groups(TASKS, portion, config)
        drawn += groups
    at_once, _, _ = InitStateSchedule(3).next_groups(TASKS, sum(portions), config)
    assert drawn[: len(at_once)] == at_once
    assert len(at_once) == min(sum(portions), 12 if config.num_states else 99)
    counts = [sum(starts[0].task.name == name for starts in drawn) for name in "abc"]
    assert max(counts) - min(counts) <= 1
    visits = [(s.task.name, s.seed, s.visit) for starts in drawn for s in starts]
    assert len(set(visits)) == len(visits)


def epoch(
    sampler: InitStateSchedule, config: GroupConfig, tasks=TASKS[:1]
) -> tuple[list[int], InitStateSchedule]:
    """Seeds of one epoch of the plan."""
    groups, _, sampler = sampler.next_groups(tasks, config.num_states, config)
    return [seed for _, seed in names(groups)], sampler


def test_a_finite_set_is_visited_whole_in_an_order_that_changes():
    ten = config(num_states=10)
    first, sampler = epoch(InitStateSchedule(50), ten)
    second, sampler = epoch(sampler, ten)
    assert sorted(first) == sorted(second) == list(range(50, 60))
    assert first != second != list(range(50, 60))
    assert epoch(InitStateSchedule(50), ten)[0] == first
    assert epoch(InitStateSchedule(50, stream=1), ten)[0] != first


def test_every_task_has_its_own_order_of_the_same_states():
    groups, _, _ = InitStateSchedule(50).next_groups(TASKS, 12, FOUR)
    by_task = {name: [seed for task, seed in names(groups) if task == name] for name in "abc"}
    assert all(sorted(seeds) == [50, 51, 52, 53] for seeds in by_task.values())
    assert len({tuple(seeds) for seeds in by_task.values()}) > 1


def test_a_state_that_comes_again_is_another_visit():
    """So its noise is another one; and no run shares a visit with another."""
    starts = [
        start
        for stream in (0, 1)
        for part in InitStateSchedule(0, stream).next_groups(TASKS[:1], 4, FOUR)[0]
        for start in part
    ]
    _, _, later = InitStateSchedule(0).next_groups(TASKS[:1], 4, FOUR)
    starts += [start for part in later.next_groups(TASKS[:1], 4, FOUR)[0] for start in part]
    assert len({(start.seed, start.visit) for start in starts}) == 12


def test_fresh_states_are_first_visits():
    assert {
        start.visit
        for part in InitStateSchedule(0).next_groups(TASKS, 9, ENDLESS)[0]
        for start in part
    } == {0}


@pytest.mark.parametrize("states", [0, 5])
def test_mixed_groups_have_different_states_of_one_task(states):
    mixed = config(mix_states=True, num_states=states)
    groups, _, _ = InitStateSchedule(0).next_groups(TASKS, 12, mixed)
    # Five states make two groups of two an epoch, and the walk ends after one: six groups.
    assert len(groups) == (6 if states else 12)
    for starts in groups:
        assert len({start.seed for start in starts}) == 2
        assert len({start.task for start in starts}) == 1
    if not states:
        assert len(set(names(groups))) == 24


def visit(
    sampler: InitStateSchedule, outcomes: dict[int, str]
) -> tuple[list[int], int, InitStateSchedule]:
    """One epoch of four states of task "a", where tried states end as `outcomes` says."""
    groups, skipped, sampler = sampler.next_groups(TASKS[:1], 4, FOUR)
    tried = [seed for _, seed in names(groups)]
    heard = [ended("a", seed, outcomes[seed]) for seed in tried]
    return sorted(tried), skipped, sampler.record(heard, 0, FOUR)


def test_a_solved_state_is_passed_over_four_times_then_tried_again():
    outcomes = {0: "11", 1: "10", 2: "00", 3: "01"}
    tried, skipped, sampler = visit(InitStateSchedule(0), outcomes)
    assert (tried, skipped) == ([0, 1, 2, 3], 0)
    for count in (1, 2, 3):
        tried, skipped, sampler = visit(sampler, outcomes)
        assert (tried, skipped) == ([1, 2, 3], 1)
        assert sampler.skips == {"a/0": count}
    # The fourth time the count exceeds the threshold of 3, and the state is forgotten.
    tried, skipped, sampler = visit(sampler, outcomes)
    assert (tried, skipped) == ([1, 2, 3], 1)
    assert "a/0" not in sampler.outcomes
    assert sampler.skips == {}
    tried, _, sampler = visit(sampler, outcomes)
    assert tried == [0, 1, 2, 3]
    assert sampler.outcomes == {"a/0": "11", "a/1": "10", "a/2": "00", "a/3": "01"}


def test_too_few_outcomes_are_not_all_successes():
    """An error left one rollout of two; the last two decide."""
    sampler = InitStateSchedule(0).record([ended("a", 0, ""), ended("a", 1, "1")], 0, FOUR)
    assert sampler.outcomes == {"a/1": "1"}
    assert epoch(sampler, FOUR)[1].skips == {}
    sampler = sampler.record([ended("a", 1, "1")], 0, FOUR)
    assert epoch(sampler, FOUR)[1].skips == {"a/1": 1}
    sampler = sampler.record([ended("a", 1, "10")], 0, FOUR)
    assert sampler.outcomes["a/1"] == "10"


@pytest.mark.parametrize(("threshold", "skips"), [(-1, 0), (0, 1), (3, 4), (5, 6)])
def test_the_threshold(threshold, skips):
    settings = dataclasses.replace(FOUR, skip_threshold=threshold)
    solved = [ended("a", seed, "11") for seed in range(4)]
    sampler, passed = InitStateSchedule(0).record(solved, 0, settings), 0
    while True:
        groups, skipped, sampler = sampler.next_groups(TASKS[:1], 4, settings)
        passed += skipped
        if groups:
            break
    assert passed == 4 * skips


def test_where_all_is_solved_nothing_is_found_and_the_walk_ends():
    sampler = InitStateSchedule(0).record(
        [ended(t, s, "11") for t in "ab" for s in range(4)], 0, FOUR
    )
    groups, skipped, sampler = sampler.next_groups(TASKS[:2], 5, FOUR)
    assert (groups, skipped, sampler.drawn) == ([], 8, 8)


def test_a_mixed_group_is_passed_over_when_all_its_states_are_solved():
    mixed = dataclasses.replace(FOUR, mix_states=True)
    all_but_one = InitStateSchedule(0).record(
        [ended("a", seed, "11") for seed in range(3)], 0, mixed
    )
    groups, skipped, sampler = all_but_one.next_groups(TASKS[:1], 4, mixed)
    assert (len(groups), skipped, len(sampler.skips)) == (1, 1, 2)


def test_of_fresh_states_nothing_is_remembered():
    sampler = InitStateSchedule(0).record([ended("a", 0, "11")], 1, ENDLESS)
    assert sampler == InitStateSchedule(0, accepted=1)


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
    assert informative_groups(groups, dynamic=True) == [groups[index] for index in kept]


def test_without_dynamic_sampling_every_group_counts():
    groups = [group(1, 1), group(0, 1), group(0, 0)]
    assert informative_groups(groups, dynamic=False) == groups


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("outcomes", [(), (1,)])
def test_what_errors_left_of_a_group_may_be_too_little(dynamic, outcomes):
    """One rollout has no baseline: the group is left out, whatever the rule."""
    assert informative_groups([group(*outcomes)], dynamic) == []


def test_a_task_that_always_ends_alike_misses_turns_until_it_does_not():
    choosy = config(task_skip=2)
    groups = [ended("b", seed, "11") for seed in range(3)]
    sampler = InitStateSchedule(0).record([*groups, ended("a", 9, "01")], 1, choosy)
    # Three groups are too few to say that b teaches nothing.
    assert names(sampler.next_groups(TASKS, 3, choosy)[0]) == [("a", 0), ("b", 1), ("c", 2)]
    sampler = sampler.record([ended("b", 3, "11")], 0, choosy)
    found, skipped, after = sampler.next_groups(TASKS, 7, choosy)
    assert [task for task, _ in names(found)] == ["a", "c", "a", "c", "a", "b", "c"]
    assert skipped == 2
    # Seeds are those of the plan: no two groups share one, whatever was skipped.
    assert names(found)[-2:] == [("b", 7), ("c", 8)]
    # One failure, and it has every turn again.
    mixed = after.record([ended("b", 7, "01")], 1, choosy)
    assert names(mixed.next_groups(TASKS, 3, choosy)[0]) == [("a", 9), ("b", 10), ("c", 11)]


def test_where_all_tasks_end_alike_they_take_turns():
    choosy = config(task_skip=3)
    groups = [ended(task, seed, "00") for task in "abc" for seed in range(4)]
    sampler = InitStateSchedule(0).record(groups, 0, choosy)
    found, skipped, _ = sampler.next_groups(TASKS, 3, choosy)
    assert names(found) == [("a", 9), ("b", 10), ("c", 11)]
    assert skipped == 9


def test_missed_turns_do_not_end_the_search():
    """Many tasks miss their turn, and two groups are wanted: the tasks behind them are found."""
    many, choosy = tuple(ScriptedTask(name=f"t{i}") for i in range(30)), config(task_skip=3)
    groups = [ended(f"t{i}", seed, "00") for i in range(20) for seed in range(4)]
    found, skipped, _ = InitStateSchedule(0).record(groups, 0, choosy).next_groups(many, 2, choosy)
    assert [task for task, _ in names(found)] == ["t20", "t21"]
    assert skipped == 20


def test_the_only_task_has_its_turn_after_those_that_it_missed():
    choosy = config(task_skip=3, num_states=2)
    sampler = InitStateSchedule(0).record([ended("a", 9, "00")] * 4, 0, choosy)
    for _ in range(3):
        found, skipped, sampler = sampler.next_groups(TASKS[:1], 1, choosy)
        assert (len(found), skipped) == (1, 3)


def test_a_resumed_sampler_goes_on():
    """It travels through a checkpoint's JSON, with all that it remembers."""
    _, _, sampler = InitStateSchedule(7, stream=2).next_groups(TASKS, 4, FOUR)
    sampler = sampler.record([ended("a", 8, "11"), ended("b", 9, "01")], 1, FOUR)
    _, _, sampler = sampler.next_groups(TASKS, 12, FOUR)
    again = InitStateSchedule(**json.loads(json.dumps(dataclasses.asdict(sampler))))
    assert again == sampler
    assert (again.skips, again.outcomes) == ({"a/8": 1}, {"a/8": "11", "b/9": "01"})
    assert again.next_groups(TASKS, 3, FOUR) == sampler.next_groups(TASKS, 3, FOUR)
    # A checkpoint of before there were finite sets.
    assert InitStateSchedule(first_seed=7, drawn=4, accepted=1).next_groups(TASKS, 1, ENDLESS)[0]


@pytest.mark.parametrize(
    ("share", "wanted", "enough"), [(1.0, 24, 24), (0.8, 24, 19), (0.8, 3, 2), (0.1, 3, 1)]
)
def test_early_stop(share, wanted, enough):
    assert config(early_stop=share, groups_per_iteration=wanted, max_groups=wanted).enough == enough


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "rl.groups.group_size must be a"),
        ({"groups_per_iteration": 19}, r"max_groups \(9\) must be at least .* \(19\)"),
        ({"early_stop": 0.0}, r"early_stop must be a number in \(0, 1\], got 0.0"),
        ({"early_stop": 1.5}, r"early_stop must be a number in \(0, 1\], got 1.5"),
        ({"num_states": -1}, "num_states must be a"),
        ({"skip_threshold": -2}, "skip_threshold must be a"),
        ({"mix_states": True, "num_states": 1}, "puts 2 states into a group; .* is 1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)
