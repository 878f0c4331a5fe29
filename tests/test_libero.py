"""LIBERO's tasks: what they say, and a simulator equal to LIBERO's own loop to the last bit."""

import dataclasses

import numpy as np
import pytest
from naive_libero import ASSETS, NaiveLoop, looks
from skips import needs_libero, needs_pro, slow

from pi0_jax.env.base import Job, run, start
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero import OWN_STATES, LiberoTask, libero_tasks
from pi0_jax.env.robosuite.libero_suites import SUITES
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError

pytestmark = needs_libero

CHUNK = 5


def task_of(suite: str, index: int, **options) -> LiberoTask:
    return libero_tasks(suite, (index,), str(ASSETS), **options)[0]


@pytest.fixture(scope="module")
def pools():
    """Two pools of one worker: two processes of our choice."""
    renderer = choose_renderer()
    with (
        SimulatorPool(1, 120, renderer=renderer) as one,
        SimulatorPool(1, 120, renderer=renderer) as two,
    ):
        yield one, two


def call(pool: SimulatorPool, task, function, *args):
    return pool.map([Job(task, function, args)])[0]


def actions_from(seed: int, steps: int) -> np.ndarray:
    """Random moves, the second half without turning."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)
    actions[steps // 2 :, 3:6] = 0
    return actions


def physics(simulator, state) -> np.ndarray:
    """Job function: what the naive loop reports, of a state."""
    simulator.load(state)
    data = simulator._arm.data
    return np.concatenate([[data.time], data.qpos, data.qvel, data.qacc_warmstart])


# A drawer that starts open, a stove that glows when it is on, and things on a floor.
@pytest.mark.parametrize(
    ("suite", "index"),
    [pytest.param("libero_spatial", 4, marks=slow), ("libero_goal", 7), ("libero_object", 2)],
)
def test_every_bit_and_every_pixel_is_that_of_the_naive_loop(pools, suite, index):
    one, two = pools
    task, actions = task_of(suite, index), actions_from(index, 2 * CHUNK)
    naive = two.submit(Job(NaiveLoop(task), looks, (3, actions, CHUNK)))
    boundaries = [call(one, task, start, 3)]
    for at in range(0, len(actions), CHUNK):
        chunk = actions[at : at + CHUNK]
        boundaries.append(call(one, task, run, boundaries[-1].state, chunk))
    (done,) = two.gather()
    assert (done.ticket, done.error) == (naive, None)
    for boundary, (state, images, proprio) in zip(boundaries, done.result, strict=True):
        np.testing.assert_array_equal(call(one, task, physics, boundary.state), state)
        np.testing.assert_array_equal(boundary.obs.images, images)
        np.testing.assert_array_equal(boundary.obs.state, proprio)
    assert np.abs(np.diff([b.obs.state[:3] for b in boundaries], axis=0)).max() > 0.01  # it moves


def glowing(simulator, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Job function: pictures of the stove off, on, and off again in another episode."""
    off = simulator.start(seed)
    stove = simulator._env.get_object("flat_stove_1")
    address = simulator._env.sim.model.get_joint_qpos_addr(stove.joints[0])
    simulator._arm.data.qpos[address] = max(
        stove.object_properties["articulation"]["default_turnon_ranges"]
    )
    still = np.zeros((2, 7), np.float32)
    simulator._arm.look()
    on = simulator.run(simulator.save(), still)
    again = simulator.run(off.state, still)
    return off.obs.images, simulator.run(on.state, still), again


def test_a_state_carries_whether_the_stove_glows(pools):
    one, two = pools
    task = task_of("libero_goal", 1)  # the bowl on the stove: turning it on is no success
    off, on, again = call(one, task, glowing, 2)
    burner = np.abs(on.obs.images[0].astype(int) - off[0]).max()
    assert burner > 40
    assert np.abs(again.obs.images[0].astype(int) - off[0]).max() < burner
    other = call(two, task, run, on.state, np.zeros((2, 7), np.float32))
    mine = call(one, task, run, on.state, np.zeros((2, 7), np.float32))
    np.testing.assert_array_equal(other.obs.images, mine.obs.images)


def test_chunks_run_anywhere_and_states_are_a_function_of_their_number(pools):
    one, two = pools
    task, actions = (
        task_of("libero_object", 0, image_size=64, pictures="coarse"),
        actions_from(1, 12),
    )
    seed = OWN_STATES + 1950  # placed anew
    whole = call(one, task, run, call(one, task, start, seed).state, actions)
    call(two, task, start, 7)  # the other worker has had another episode
    first = call(two, task, start, seed)
    half = call(two, task, run, first.state, actions[:6])
    call(one, task, start, 8)
    rest = call(one, task, run, half.state, actions[6:])
    assert rest.state.hash == whole.state.hash
    np.testing.assert_array_equal(rest.obs.images, whole.obs.images)
    assert rest.obs.images.shape == (2, 64, 64, 3)
    assert first.state.hash != call(two, task, start, seed + 1).state.hash


def placements(simulator, seed: int) -> list[str]:
    """Job function: hashes of a start, with its first two placements solved, and as it is again."""
    found = [simulator.start(seed).state.hash]
    simulator._solved = iter([True, True, False]).__next__
    found.append(simulator.start(seed).state.hash)
    del simulator._solved
    return [*found, simulator.start(seed).state.hash]


def always_solved(simulator, seed: int) -> str:
    """Job function: the error of a seed that is placed anew, and the hash of an own state."""
    simulator._solved = lambda: True
    try:
        simulator.start(seed)
    except RuntimeError as error:
        return f"{error} / {simulator.start(3).state.hash}"
    finally:
        del simulator._solved
    return "no error"


def test_a_placement_that_is_solved_is_drawn_again(pools):
    """Only where objects are placed anew: the benchmark's own states stay what they are."""
    one, _ = pools
    task = task_of("libero_object", 0, image_size=16, pictures="coarse")
    first, third, again = call(one, task, placements, OWN_STATES + 2000)
    assert first == again != third
    own = call(one, task, start, 3).state.hash
    said = call(one, task, always_solved, OWN_STATES + 2000)
    assert said.startswith("libero_object_0: the goal holds in each of 100 placements from seed")
    assert said.endswith(own)


def test_names_limits_and_instructions():
    spatial = libero_tasks("libero_spatial", (), str(ASSETS))
    assert [task.name for task in spatial] == [f"libero_spatial_{i}" for i in range(10)]
    assert {task.max_steps for task in spatial} == {220}
    assert task_of("libero_object", 0).instruction == (
        "pick up the alphabet soup and place it in the basket"
    )
    assert len(libero_tasks("libero_90", (), str(ASSETS))) == 90
    assert task_of("libero_10", 2).instruction == ("turn on the stove and put the moka pot on it")


@needs_pro
def test_tasks_that_are_solved_before_anything_is_done_are_refused():
    """In two goal files of LIBERO-PRO the goal is where the objects begin."""
    with pytest.raises(InputError, match="libero_study_table 2 is where its objects begin"):
        libero_tasks("libero_study_table", (0, 2), str(ASSETS))
    assert [name for name, facts in SUITES.items() if facts.solved] == ["libero_study_table"]


def test_other_words_leave_the_task_as_it_is():
    """Of two tasks whose instructions are swapped, each keeps its name, file and goal."""
    own = libero_tasks("libero_goal", (1, 8), str(ASSETS))
    words = [task.instruction for task in own]
    swapped = libero_tasks("libero_goal", (1, 8), str(ASSETS), instructions=words[::-1])
    assert [task.instruction for task in swapped] == words[::-1]
    assert [task.instruction for task in swapped] == [
        "put the bowl on the plate",
        "put the bowl on the stove",
    ]
    for one, other in zip(own, swapped, strict=True):
        assert dataclasses.replace(other, given_instruction="") == one


def test_a_number_between_the_own_states_and_fifty_is_none():
    milk = LiberoTask("libero_goal_with_milk", 0, "a", "b")
    for seed in (0, 9, 50, 1000):
        milk.check_state(seed)
    said = "has 10 initial states of its own, 0 to 9, .* got 10: set config.eval.episodes to 10"
    with pytest.raises(InputError, match=said):
        milk.check_state(10)
    for seed in range(60):
        task_of("libero_goal", 0).check_state(seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": (10,)}, r"has the tasks 0 to 9, each at most once; got \(10,\)"),
        ({"tasks": (1, 1)}, "each at most once"),
        ({"pictures": "nice"}, r"task.pictures must be one of .*, got 'nice'"),
        ({"image_size": 4}, "image_size"),
        ({"tasks": (1, 8), "instructions": ("one",)}, r"each of the 2 tasks .* \('one',\)"),
        ({"tasks": (1, 8), "instructions": ("one", "")}, "words of each of the 2 tasks"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        libero_tasks("libero_goal", **{"assets": str(ASSETS), **options})
