"""The protocol of demonstrators: what an Episode records of one, whatever the simulator."""

import numpy as np
import pytest

from pi0_jax.env.base import Job, run, start
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedSimulator, ScriptedTask
from pi0_jax.env.workers.pool import SimulatorPool

EXACT = DemonstratorConfig(offset_sigma=0, offset_sigma_z=0, action_noise=0, rotation_noise=0)


@pytest.fixture(scope="module")
def pool():
    with SimulatorPool(1, 60, renderer=choose_renderer()) as pool:
        yield pool


def demonstrations(pool, task, style, seeds):
    return pool.map([Job(task, demonstrate, (seed, style)) for seed in seeds])


@pytest.mark.parametrize("task", [LiftTask(), ScriptedTask()], ids=lambda task: task.name)
def test_an_episode_is_what_happened(pool, task):
    episode, again = demonstrations(pool, task, DemonstratorConfig(), [3, 3])
    steps, size = len(episode), task.image_size
    assert steps > 4
    assert episode.task == task.name
    assert episode.optimizer_step == -1
    assert episode.error is None
    assert episode.images.shape == (len(episode.image_steps), 2, size, size, 3)
    assert list(episode.image_steps) == list(range(0, steps, 4))
    assert list(np.flatnonzero(episode.chunk_start)) == list(episode.image_steps)
    assert np.abs(episode.actions).max() <= 1
    np.testing.assert_array_equal(episode.actions, again.actions)

    first = pool.map([Job(task, start, (3,))])[0]
    assert first.state.hash == episode.init_hash
    np.testing.assert_array_equal(first.obs.images, episode.images[0])
    replay = pool.map([Job(task, run, (first.state, episode.actions))])[0]
    np.testing.assert_array_equal(replay.proprio, episode.state)
    assert replay.success == episode.success
    head = pool.map([Job(task, run, (first.state, episode.actions[:4]))])[0]
    np.testing.assert_array_equal(head.obs.images, episode.images[1])


class Idle(ScriptedSimulator):
    """Its demonstrator sees nothing to do."""

    def demonstrator(self, style, rng):
        yield from ()


def test_a_demonstrator_that_does_nothing_is_an_error():
    with pytest.raises(RuntimeError, match=r"does nothing from initial state 5: the goal may hold"):
        demonstrate(Idle(ScriptedTask()), 5, EXACT)


def test_the_scripted_task_has_a_demonstrator_too(pool):
    episodes = demonstrations(pool, ScriptedTask(), EXACT, range(8))
    assert all(episode.success for episode in episodes)
    episodes = demonstrations(pool, ScriptedTask(), DemonstratorConfig(offset_sigma=0.5), range(30))
    assert 0 < sum(episode.success for episode in episodes) < 30
