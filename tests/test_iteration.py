"""A collect_groups ends whatever the policy does, and weights are those of the outcomes."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CONFIG, RIPT, episode, ript, transforms

from pi0_jax.data.demonstrations import InMemory, Recorded
from pi0_jax.data.windows import concatenate, count
from pi0_jax.env.scripted import SCRIPTED_ROBOT, ScriptedTask
from pi0_jax.episode import Group
from pi0_jax.rl import iteration
from pi0_jax.rl.init_states import InitStateSchedule
from pi0_jax.rl.iteration import (
    CollectedGroups,
    WeightedWindows,
    collect_groups,
    demo_windows,
    draw_batch,
    weighted_windows,
)
from pi0_jax.testing import batch

EASY = ScriptedTask(name="easy", max_steps=4, image_size=16, tolerance=9.0)
HOPELESS = ScriptedTask(name="hopeless", max_steps=4, image_size=16, tolerance=0.0)
MIXED = ScriptedTask(name="mixed", max_steps=8, image_size=16, tolerance=0.6, speed=0.3)


class NoisePolicy:
    """Acts by its noise alone."""

    model = SimpleNamespace(config=CONFIG)
    params = None
    robot = SCRIPTED_ROBOT

    def act(self, observations, noise):
        return np.clip(noise[..., :7], -1, 1)


def gather(
    pool, tasks, init_states=None, windows=None, **sampling
) -> tuple[CollectedGroups, InitStateSchedule]:
    config = ript(groups=sampling, windows=windows or {})
    return collect_groups(
        NoisePolicy(), pool, tasks, init_states or InitStateSchedule(50), config, 4, 0
    )


@pytest.mark.parametrize(("task", "rate"), [(EASY, 1.0), (HOPELESS, 0.0)])
def test_a_policy_that_always_ends_alike_ends_the_harvest(scripted_pool, task, rate):
    found, init_states = gather(scripted_pool, [task])
    assert (found.tried, len(found.groups), found.accepted_share) == (6, 0, 0.0)
    assert len(found.episodes) == 6 * 3
    assert found.success_rate == rate
    assert (init_states.drawn, init_states.accepted) == (6, 0)


def test_without_dynamic_sampling_they_count(scripted_pool):
    found, _ = gather(scripted_pool, [EASY], dynamic_sampling=False)
    assert (found.tried, len(found.groups), found.accepted_share) == (2, 2, 1.0)


def test_mixed_groups_are_collected_until_there_are_enough(scripted_pool):
    found, init_states = gather(scripted_pool, [MIXED], groups_per_iteration=3, max_groups=40)
    assert len(found.groups) == 3 == init_states.accepted
    assert 3 <= found.tried < 40
    assert init_states.drawn == found.tried == len({e.seed for e in found.episodes})
    assert len(found.episodes) == 3 * found.tried
    for group in found.groups:
        assert 0 < group.rewards.sum() < 3
        assert len({e.init_hash for e in group.episodes}) == 1
    # Pictures take gigabytes: those of rejected groups are freed at once.
    with_images = {(e.seed, id(e)) for e in found.episodes if e.images.size}
    assert with_images == {(e.seed, id(e)) for group in found.groups for e in group.episodes}


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_early_stop_saves_rounds_of_search(scripted_pool, share):
    """Four groups wanted; the first round tries four, and is whole whatever it finds."""
    whole, _ = gather(scripted_pool, [MIXED], groups_per_iteration=4, max_groups=40)
    less, _ = gather(
        scripted_pool, [MIXED], groups_per_iteration=4, max_groups=40, early_stop=share
    )
    assert 4 * share <= len(less.groups) <= 4 == len(whole.groups)
    assert 4 <= less.tried <= whole.tried
    # It is the same search, cut off.
    assert [e.seed for e in less.episodes] == [e.seed for e in whole.episodes][: 3 * less.tried]
    if share == 0.25:
        assert less.tried < whole.tried


def test_hopeless_tasks_do_not_hide_the_others(scripted_pool):
    found, _ = gather(scripted_pool, [HOPELESS, MIXED], groups_per_iteration=2, max_groups=30)
    assert {e.task for group in found.groups for e in group.episodes} == {"mixed"}
    tried = [e.task for e in found.episodes]
    assert abs(tried.count("hopeless") - tried.count("mixed")) <= 3
    assert found.success_by_task["hopeless"] == 0.0
    assert 0 < found.success_by_task["mixed"] < 1


def test_a_resumed_sampler_harvests_on(scripted_pool):
    _, init_states = gather(scripted_pool, [MIXED])
    again, _ = collect_groups(NoisePolicy(), scripted_pool, [MIXED], init_states, RIPT, 4, 0)
    assert min(e.seed for e in again.episodes) == 50 + init_states.drawn


def test_solved_states_cost_no_rollouts(scripted_pool):
    """Two states, always solved: tried once, passed over four times, tried again."""
    init_states, tried, skipped = None, [], []
    for _ in range(7):
        found, init_states = gather(scripted_pool, [EASY], init_states, num_states=2)
        tried.append(found.tried)
        skipped.append(found.skipped)
        assert len(found.episodes) == 3 * found.tried
    # The second round of the first step finds both solved already, and ends the step.
    assert tried == [2, 0, 0, 0, 2, 0, 0]
    assert skipped == [2, 2, 2, 2, 2, 2, 2]


def test_unsolved_states_are_tried_again_with_other_noise(scripted_pool):
    found, _ = gather(scripted_pool, [HOPELESS], num_states=2)
    assert (found.tried, found.skipped) == (6, 0)
    assert {e.seed for e in found.episodes} == {50, 51}
    assert len({e.actions.tobytes() for e in found.episodes}) == 18


def test_mixed_states_in_a_group(scripted_pool):
    found, _ = gather(scripted_pool, [MIXED], mix_states=True, max_groups=30)
    assert len(found.groups) == 2
    for group in found.groups:
        assert len({e.init_hash for e in group.episodes}) == 3
        assert 0 < group.rewards.sum() < 3


def test_a_stride_is_rendered(scripted_pool):
    found, _ = gather(scripted_pool, [HOPELESS], windows={"stride": 3}, dynamic_sampling=False)
    assert {tuple(e.image_steps.tolist()) for e in found.episodes} == {(0, 3)}
    windows = weighted_windows(found.groups, ript(windows={"stride": 3}), transforms(), 4, TASKS)
    assert count(windows.batch) == 2 * len(found.episodes)


def test_progress_reports_the_whole_step(scripted_pool):
    seen = []
    collect_groups(
        NoisePolicy(),
        scripted_pool,
        [EASY],
        InitStateSchedule(0),
        RIPT,
        4,
        0,
        lambda e: seen.append(len(e)),
    )
    assert seen == list(range(1, 19))


def test_success_rate_leaves_errors_out():
    episodes = (episode(2, [0], success=True), episode(2, [0]), episode(2, [0], error="broken"))
    assert CollectedGroups(episodes).success_rate == 0.5
    assert CollectedGroups(episodes).success_by_task == {"scripted": 0.5}
    assert np.isnan(CollectedGroups().success_rate)


def group(*outcomes: int) -> Group:
    return Group(tuple(episode(3, [0, 2], success=bool(outcome)) for outcome in outcomes))


GROUPS = [group(1, 0, 0), group(1, 1, 0)]
TASKS = ("scripted",)


def test_windows_inherit_the_weight():
    windows = weighted_windows(GROUPS, RIPT, transforms(), CONFIG.action_horizon, TASKS)
    expected = np.repeat([1.5, 0, 0, 0.75, 0.75, 0], 2)
    np.testing.assert_allclose(windows.batch.weight, expected, rtol=1e-6)
    assert windows.advantages_not_finite == 0
    none = weighted_windows([], RIPT, transforms(), CONFIG.action_horizon, TASKS)
    assert none == WeightedWindows(batch=None, advantages_not_finite=0)


def test_windows_keep_the_count_of_advantages_that_are_not_finite(monkeypatch):
    """Weighed once per iteration: here by hand, with two of six episodes not finite."""
    calls = []

    def weights(rewards, config):
        calls.append(len(rewards))
        return np.array([0, 1, 0, 2, 0, 0], np.float32), 2

    monkeypatch.setattr(iteration, "episode_weights", weights)
    windows = weighted_windows(GROUPS, RIPT, transforms(), CONFIG.action_horizon, TASKS)
    assert windows.batch.weight.tolist() == [0, 0, 1, 1, 0, 0, 2, 2, 0, 0, 0, 0]
    short = weighted_windows(GROUPS, ript(windows={"skip_short": True}), transforms(), 4, TASKS)
    assert (windows.advantages_not_finite, short.advantages_not_finite) == (2, 2)
    assert calls == [2, 2]  # of two groups, each time


def test_short_windows_may_be_left_out():
    """Episodes of three steps, looks at 0 and 2, horizon 2: the second window is short."""
    whole = weighted_windows(GROUPS, ript(windows={"skip_short": True}), transforms(), 2, TASKS)
    assert count(whole.batch) == 6
    assert whole.batch.action_mask.all()
    none = weighted_windows(GROUPS, ript(windows={"skip_short": True}), transforms(), 4, TASKS)
    assert none.batch is None


@pytest.mark.parametrize(("fraction", "demos"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_a_batch_has_its_share_of_demonstrations(fraction, demos):
    rollouts = batch(3).replace(weight=np.ones(3, np.float32))
    windows = draw_batch(
        [rollouts], InMemory(batch(2).replace(weight=np.zeros(2, np.float32))),
        ript(demo_fraction=fraction), np.random.default_rng(0),
    )  # fmt: skip
    assert count(windows) == 8
    assert windows.weight.tolist() == [1.0] * (8 - demos) + [0.0] * demos


def test_demonstrations_have_a_window_at_every_picture_and_their_weight():
    demos = Recorded([episode(5, [0, 2, 4]), episode(3, [0, 2])])
    config = ript(demo_weight=0.3, windows={"stride": 3})
    windows = demo_windows(demos, config, transforms(), 4)
    np.testing.assert_allclose(windows.take(np.arange(5)).weight, np.full(5, 0.3))
    assert len(demo_windows(demos, ript(windows={"skip_short": True}), transforms(), 3)) == 3
    assert demo_windows(demos, ript(demo_fraction=0.0), transforms(), 4) is None
    assert not demo_windows(demos, RIPT, transforms(), 4).take(np.arange(5)).weight.any()


def test_batches_draw_from_the_whole_buffer():
    rollouts, rng = batch(3), np.random.default_rng(0)
    parts = [
        rollouts.replace(weight=np.array([1, 2, 2], np.float32)),
        rollouts.replace(weight=np.array([3, 3, 3], np.float32)),
    ]
    drawn = np.concatenate(
        [draw_batch(parts, InMemory(batch(1)), RIPT, rng).weight[:6] for _ in range(50)]
    )
    shares = [np.mean(drawn == value) for value in (1, 2, 3)]
    np.testing.assert_allclose(shares, [1 / 6, 1 / 3, 1 / 2], atol=0.1)


def test_a_buffer_in_parts_is_the_buffer():
    demos = InMemory(batch(1))
    whole = draw_batch([concatenate([batch(3), batch(2)])], demos, RIPT, np.random.default_rng(4))
    parts = draw_batch([batch(3), batch(2)], demos, RIPT, np.random.default_rng(4))
    np.testing.assert_array_equal(whole.actions, parts.actions)


def test_a_task_with_few_windows_is_drawn_as_often():
    """Nine windows of one task and one of another: half of the draws each."""
    few, many = (
        batch(n).replace(task=np.full(n, n, np.int32), weight=np.full(n, n, np.float32))
        for n in (1, 9)
    )
    rng, config = np.random.default_rng(0), ript(demo_fraction=0.0, balance_tasks=True)
    drawn = [draw_batch([many, few], None, config, rng) for _ in range(50)]
    assert np.mean([one.weight == 1 for one in drawn]) == pytest.approx(0.5, abs=0.05)
    assert drawn[0].task is None  # nothing of it goes to the device


def test_windows_know_their_task_only_where_it_is_asked_for():
    names = ("other", "scripted")
    numbered = weighted_windows(GROUPS, ript(balance_tasks=True), transforms(), 4, names)
    assert numbered.batch.task.tolist() == [1] * 12
    assert weighted_windows(GROUPS, RIPT, transforms(), 4, names).batch.task is None
