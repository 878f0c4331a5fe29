"""The simulator contract, checked on the scripted task: values in, values out."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from pi0_jax.env.base import SimState, Task, run, start
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask

TASK = ScriptedTask()


def actions_from(seed: int, steps: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (steps, 7)).astype(np.float32)


def straight_to_the_target(state: SimState, steps: int) -> np.ndarray:
    gap = state.arrays["target"] - state.arrays["hand"]
    actions = np.zeros((steps, 7), np.float32)
    actions[:, :2] = gap / np.abs(gap).max()
    return actions


@pytest.mark.parametrize("task", [TASK, LiftTask()])
def test_tasks_are_hashable_picklable_descriptions(task: Task):
    assert isinstance(task, Task)
    assert pickle.loads(pickle.dumps(task)) == task
    assert len({task, task}) == 1


def test_hash_tells_states_apart_and_ignores_the_order_of_names():
    one, two = np.zeros(2), np.ones(2)
    state = SimState({"a": one, "b": two})
    assert state.hash == SimState({"b": two, "a": one}).hash
    assert state.hash != SimState({"a": two, "b": one}).hash


def test_split_chunks_equal_one_chunk_in_another_simulator():
    actions = actions_from(0)
    first = start(TASK.build(), 3)
    whole = run(TASK.build(), first.state, actions)

    simulator = TASK.build()
    head = run(simulator, first.state, actions[:5])
    start(simulator, 99)  # another episode in between
    tail = run(simulator, head.state, actions[5:])

    assert not whole.success
    assert tail.state.hash == whole.state.hash
    np.testing.assert_array_equal(tail.obs.images, whole.obs.images)
    proprio = np.concatenate([head.proprio, tail.proprio])
    np.testing.assert_array_equal(proprio, whole.proprio)
    np.testing.assert_array_equal(tail.proprio[0], head.obs.state)


def test_success_ends_the_chunk_and_nobody_looks():
    simulator = TASK.build()
    first = start(simulator, 0)
    boundary = run(simulator, first.state, straight_to_the_target(first.state, 40), frame_every=2)
    assert boundary.success
    assert boundary.obs is None
    assert 0 < len(boundary.actions) < 40
    assert len(boundary.proprio) == len(boundary.actions)
    assert len(boundary.frames) == -(-len(boundary.actions) // 2)


def test_actions_are_clipped_and_returned_as_executed():
    simulator = TASK.build()
    state = start(simulator, 1).state
    wild = np.full((2, 7), 9, np.float32)
    boundary = run(simulator, state, wild)
    np.testing.assert_array_equal(boundary.actions, np.ones((2, 7), np.float32))
    assert boundary.state.hash == run(simulator, state, np.ones((2, 7))).state.hash


@pytest.mark.parametrize(("step", "every", "expected"), [
    (0, 0, []), (0, 3, [3, 6, 9]), (4, 3, [2, 5, 8, 11]), (6, 3, [3, 6, 9]), (5, 12, [7]),
    (0, 12, []),
])  # fmt: skip
def test_looks_within_a_chunk(step: int, every: int, expected: list[int]):
    """Before the steps that `every` divides, counted from the episode's start; not at its ends."""
    actions, simulator = actions_from(0), TASK.build()
    first = start(simulator, 3)
    plain = run(simulator, first.state, actions)
    looked = run(simulator, first.state, actions, 0, every, step)
    assert looked.look_steps.tolist() == expected
    assert looked.looks.shape[0] == len(expected)
    assert looked.state.hash == plain.state.hash
    np.testing.assert_array_equal(looked.obs.images, plain.obs.images)
    for image, at in zip(looked.looks, expected, strict=True):
        there = run(simulator, first.state, actions[:at])
        np.testing.assert_array_equal(image, there.obs.images)


def test_nobody_looks_behind_success():
    simulator = TASK.build()
    first = start(simulator, 0)
    actions = straight_to_the_target(first.state, 40)
    boundary = run(simulator, first.state, actions, 0, 1)
    assert boundary.success
    assert boundary.look_steps.tolist() == list(range(1, len(boundary.actions)))


@pytest.mark.parametrize("bad", [np.full((2, 7), np.nan), np.zeros((2, 6)), np.zeros(7)])
def test_unusable_actions_raise(bad: np.ndarray):
    simulator = TASK.build()
    with pytest.raises(ValueError, match="expected finite actions"):
        run(simulator, start(simulator, 1).state, bad)


def test_the_spots_are_where_the_state_says():
    simulator = TASK.build()
    boundary = start(simulator, 5)
    fixed = boundary.obs.images[0].astype(float)
    redness = fixed[..., 0] - fixed[..., 2]
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    axis = np.linspace(-1, 1, TASK.image_size)
    target = boundary.state.arrays["target"]
    np.testing.assert_allclose([axis[column], axis[row]], target, atol=0.1)


def test_importing_the_parents_side_is_cheap():
    heavy = "{'jax', 'torch', 'mujoco', 'robosuite', 'numba', 'flax'}"
    code = (
        "import sys, pi0_jax.env.workers.pool, pi0_jax.env.robosuite.lift; "
        "import pi0_jax.env.demonstrator, pi0_jax.env.robosuite.gl; "
        f"print(*sorted({heavy} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []
