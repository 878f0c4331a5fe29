"""A harvest ends whatever the policy does, and weights are those of the outcomes."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CONFIG, RIPT, batch, episode, transforms

from pi0_jax.data.windows import count
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.episode import Group
from pi0_jax.errors import InputError
from pi0_jax.rl.ript import Harvest, draw_batch, episode_weights, harvest, weighted_windows
from pi0_jax.rl.sampler import Sampler

EASY = ScriptedTask(name="easy", max_steps=4, image_size=16, tolerance=9.0)
HOPELESS = ScriptedTask(name="hopeless", max_steps=4, image_size=16, tolerance=0.0)
MIXED = ScriptedTask(name="mixed", max_steps=8, image_size=16, tolerance=0.6, speed=0.3)


class NoisePolicy:
    """Acts by its noise alone."""

    model = SimpleNamespace(config=CONFIG)

    def act(self, observations, noise):
        return np.clip(noise[..., :7], -1, 1)


def config(**changes):
    return dataclasses.replace(RIPT, **changes)


def gather(pool, tasks, **changes) -> tuple[Harvest, Sampler]:
    return harvest(NoisePolicy(), pool, tasks, Sampler(50), config(**changes), 4, 0)


@pytest.mark.parametrize(("task", "rate"), [(EASY, 1.0), (HOPELESS, 0.0)])
def test_a_policy_that_always_ends_alike_ends_the_harvest(scripted_pool, task, rate):
    found, sampler = gather(scripted_pool, [task])
    assert (found.tried, len(found.groups)) == (6, 0)
    assert len(found.episodes) == 6 * 3
    assert found.success_rate == rate
    assert (sampler.drawn, sampler.accepted) == (6, 0)


def test_without_dynamic_sampling_they_count(scripted_pool):
    found, _ = gather(scripted_pool, [EASY], dynamic_sampling=False)
    assert (found.tried, len(found.groups)) == (2, 2)


def test_mixed_groups_are_collected_until_there_are_enough(scripted_pool):
    found, sampler = gather(scripted_pool, [MIXED], groups_per_step=3, max_groups=40)
    assert len(found.groups) == 3 == sampler.accepted
    assert 3 <= found.tried < 40
    assert sampler.drawn == found.tried == len({e.seed for e in found.episodes})
    assert len(found.episodes) == 3 * found.tried
    for group in found.groups:
        assert 0 < group.rewards.sum() < 3
        assert len({e.init_hash for e in group.episodes}) == 1


def test_hopeless_tasks_do_not_hide_the_others(scripted_pool):
    found, _ = gather(scripted_pool, [HOPELESS, MIXED], groups_per_step=2, max_groups=30)
    assert {e.task for group in found.groups for e in group.episodes} == {"mixed"}
    tried = [e.task for e in found.episodes]
    assert abs(tried.count("hopeless") - tried.count("mixed")) <= 3


def test_a_resumed_sampler_harvests_on(scripted_pool):
    _, sampler = gather(scripted_pool, [MIXED])
    again, _ = harvest(NoisePolicy(), scripted_pool, [MIXED], sampler, RIPT, 4, 0)
    assert min(e.seed for e in again.episodes) == 50 + sampler.drawn


def test_progress_reports_the_whole_step(scripted_pool):
    seen = []
    harvest(
        NoisePolicy(), scripted_pool, [EASY], Sampler(0), RIPT, 4, 0, lambda e: seen.append(len(e))
    )
    assert seen == list(range(1, 19))


def test_success_rate_leaves_errors_out():
    episodes = (episode(2, [0], success=True), episode(2, [0]), episode(2, [0], error="broken"))
    assert Harvest(episodes, (), 1).success_rate == 0.5
    assert np.isnan(Harvest((), (), 0).success_rate)


def group(*outcomes: int) -> Group:
    return Group(tuple(episode(3, [0, 2], success=bool(outcome)) for outcome in outcomes))


GROUPS = [group(1, 0, 0), group(1, 1, 0)]


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        # Advantages 1, -1/2, -1/2 and 1/2, 1/2, -1; the positive ones have mean 2/3.
        ({}, [1.5, 0, 0, 0.75, 0.75, 0]),
        ({"hard": True}, [1, 0, 0, 1, 1, 0]),
        ({"a_max": 0.5}, [1, 0, 0, 1, 1, 0]),
        ({"success_weight": True}, [1, 0, 0, 1, 1, 0]),
    ],
)
def test_weights_by_hand(changes, weights):
    np.testing.assert_allclose(episode_weights(GROUPS, config(**changes)), weights, rtol=1e-6)


def test_filtered_cloning_learns_from_uniform_groups():
    assert episode_weights([group(1, 1)], config(success_weight=True)).tolist() == [1, 1]
    assert episode_weights([group(1, 1)], RIPT).tolist() == [0, 0]


def test_windows_inherit_the_weight():
    windows = weighted_windows(GROUPS, RIPT, transforms(), CONFIG.action_horizon)
    expected = np.repeat([1.5, 0, 0, 0.75, 0.75, 0], 2)
    np.testing.assert_allclose(windows.weight, expected, rtol=1e-6)
    assert weighted_windows([], RIPT, transforms(), CONFIG.action_horizon) is None


@pytest.mark.parametrize(("fraction", "demos"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_a_batch_has_its_share_of_demonstrations(fraction, demos):
    rollouts = batch(3).replace(weight=np.ones(3, np.float32))
    windows = draw_batch(
        rollouts, batch(2).replace(weight=np.zeros(2, np.float32)),
        config(demo_fraction=fraction), np.random.default_rng(0),
    )  # fmt: skip
    assert count(windows) == 8
    assert windows.weight.tolist() == [1.0] * (8 - demos) + [0.0] * demos


def test_batches_draw_from_the_whole_buffer():
    rollouts, rng = batch(3), np.random.default_rng(0)
    rollouts = rollouts.replace(weight=np.arange(1, 4, dtype=np.float32))
    drawn = np.concatenate(
        [draw_batch(rollouts, batch(1), RIPT, rng).weight[:6] for _ in range(50)]
    )
    shares = [np.mean(drawn == value) for value in (1, 2, 3)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "rl.group_size must be at least 2, got 1"),
        ({"groups_per_step": 9}, r"rl.max_groups \(6\) must be at least .* \(9\)"),
        ({"demo_fraction": 1.0}, r"rl.demo_fraction must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)
