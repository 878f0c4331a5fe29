"""The real simulator: physics equal to robosuite's own, chunks that may run anywhere."""

import os
import signal

import numpy as np
import pytest
from skips import slow

from pi0_jax.env.base import ChunkResult, Job, run, start
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.workers.pool import SimulatorPool

TASK = LiftTask()


@pytest.fixture(scope="module")
def pools():
    """Two pools of one worker: two processes of our choice."""
    renderer = choose_renderer()
    with (
        SimulatorPool(1, 60, renderer=renderer) as one,
        SimulatorPool(1, 60, renderer=renderer) as two,
    ):
        for pool in (one, two):
            pool.submit(Job(TASK, start, (0,)))
        for pool in (one, two):
            assert pool.gather()[0].error is None
        yield one, two


def call(pool: SimulatorPool, function, *args):
    return pool.map([Job(TASK, function, args)])[0]


def actions_from(seed: int, steps: int) -> np.ndarray:
    """Random moves that bring the gripper down to the cube, with and without turning."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)
    actions[:, 2] -= 0.5
    actions[steps // 2 :, 3:6] = 0
    return actions


def assert_same(one: ChunkResult, two: ChunkResult):
    assert one.state.hash == two.state.hash
    assert one.success == two.success
    np.testing.assert_array_equal(one.obs.images, two.obs.images)
    np.testing.assert_array_equal(one.obs.state, two.obs.state)


def both_ways(simulator, seed: int, actions: np.ndarray):
    """Full physical states [t, n] by our control step and by robosuite's `env.step`."""
    from pi0_jax.env.robosuite.lift import SETTLE_STEPS
    from pi0_jax.env.robosuite.panda_simulator import SETTLE

    env, data = simulator._env, simulator._arm.data

    def full_state() -> np.ndarray:
        cube = [float(env._check_success())]
        return np.concatenate([[data.time], data.qpos, data.qvel, data.qacc_warmstart, cube])

    simulator.start(seed)
    ours = []
    for action in actions:
        simulator.step(action)
        ours.append(full_state())
    np.random.seed(seed)
    env.robots[0].gripper.current_action = np.zeros(2)
    env.reset()
    for _ in range(SETTLE_STEPS):
        env.step(SETTLE)
    theirs = []
    for action in actions:
        env.step(action)
        theirs.append(full_state())
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_bit_of_the_physics_is_robosuites(pools, seed: int):
    actions = np.clip(actions_from(seed, 30), -1, 1)
    ours, theirs = call(pools[0], both_ways, seed, actions)
    assert np.ptp(ours[:, 1:8], axis=0).max() > 0.1  # the arm did move
    np.testing.assert_array_equal(ours, theirs)


def test_looks_within_a_chunk_change_no_bit(pools):
    """And show what the end of a shorter chunk shows."""
    actions = actions_from(4, 12)
    first = call(pools[0], start, 4)
    plain = call(pools[0], run, first.state, actions)
    looked = call(pools[1], run, first.state, actions, 0, 5, 2)
    assert_same(looked, plain)
    assert looked.look_steps.tolist() == [3, 8]  # steps 5 and 10 of the episode
    for image, step in zip(looked.looks, looked.look_steps, strict=True):
        there = call(pools[0], run, first.state, actions[:step])
        np.testing.assert_array_equal(image, there.obs.images)


def test_split_over_two_processes_equals_unsplit(pools):
    one, two = pools
    actions = actions_from(3, 24)
    first = call(one, start, 3)
    whole = call(one, run, first.state, actions)

    call(two, start, 8)  # the other worker has had another episode
    parts = [first]
    for index, pool in enumerate((two, one, two)):
        call(pool, run, first.state, actions_from(9, 3))
        parts.append(call(pool, run, parts[-1].state, actions[8 * index : 8 * index + 8]))
    assert_same(parts[-1], whole)
    proprio = np.concatenate([part.proprio for part in parts[1:]])
    np.testing.assert_array_equal(proprio, whole.proprio)
    np.testing.assert_array_equal(parts[2].proprio[0], parts[1].obs.state)


def test_starts_are_a_function_of_the_seed(pools):
    one, two = pools
    assert_same(call(one, start, 5), call(two, start, 5))
    assert call(one, start, 5).state.hash != call(one, start, 6).state.hash


def test_video_frames_do_not_change_the_episode(pools):
    state = call(pools[0], start, 4).state
    actions = actions_from(4, 10)
    plain = call(pools[0], run, state, actions)
    filmed = call(pools[0], run, state, actions, 4)
    assert_same(plain, filmed)
    assert plain.frames.shape[0] == 0
    assert filmed.frames.shape == (2, 256, 256, 3)
    assert filmed.frames.std() > 10  # a picture, not a blank


# test_pool kills and stops workers of the scripted task.
@slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_killed_or_stopped_loses_nothing(pools, how: int):
    state = call(pools[1], start, 7).state
    actions = actions_from(7, 16)
    expected = call(pools[1], run, state, actions)
    with SimulatorPool(1, timeout_s=4, renderer=choose_renderer()) as pool:
        assert_same(call(pool, run, state, actions), expected)
        pool.submit(Job(TASK, run, (state, np.tile(actions, (40, 1)))))
        assert pool.gather(0.05) == [], "the job must still be running"
        os.kill(pool._seats[0].worker.pid, how)
        (done,) = pool.gather()
        assert done.error is None
        whole = call(pools[1], run, state, np.tile(actions, (40, 1)))
        assert_same(done.result, whole)


def cube_and_images(simulator, seed: int):
    images = simulator.start(seed).obs.images
    return simulator.object_position("cube"), images


def red(image: np.ndarray) -> np.ndarray:
    """bool[h, w]: pixels of the cube."""
    level = image.astype(int)
    return level[..., 0] - np.maximum(level[..., 1], level[..., 2]) > 60


def test_the_cube_is_seen_where_it_is(pools):
    jobs = [Job(TASK, cube_and_images, (seed,)) for seed in range(12)]
    positions, images = zip(*pools[0].map(jobs), strict=True)
    positions, images = np.array(positions), np.array(images)
    assert images.shape == (12, 2, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.abs(positions[:, :2]).max() <= TASK.placement + 0.002
    assert np.ptp(positions[:, :2], axis=0).min() > TASK.placement
    spots = np.array([np.argwhere(red(views[0])).mean(0) for views in images])
    # The camera faces the robot: nearer (x) is lower; turned by 180 degrees, +y is on the left.
    assert np.corrcoef(positions[:, 0], spots[:, 0])[0, 1] > 0.98
    assert np.corrcoef(positions[:, 1], spots[:, 1])[0, 1] < -0.98
    assert min(red(views[1]).sum() for views in images) > 20


def test_proprioception_is_relative_to_a_hanging_gripper(pools):
    states = np.array([call(pools[0], start, seed).obs.state for seed in range(5)])
    assert states.dtype == np.float32
    assert np.abs(states[:, 3:6]).max() < 0.3  # nowhere near the jump at pi
    assert (states[:, 2] > 0.9).all()  # m, above the table
    np.testing.assert_allclose(states[:, 6], -states[:, 7], atol=1e-3)
    assert (states[:, 6] > 0.03).all()  # open


def test_unusable_actions_raise(pools):
    state = call(pools[0], start, 0).state
    with pytest.raises(RuntimeError, match="ValueError: expected finite actions"):
        call(pools[0], run, state, np.full((1, 7), np.nan))
