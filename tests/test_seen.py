"""Pictures that a simulator resizes are those that the policy would have made of them."""

import numpy as np
import pytest
from tiny import transforms

from pi0_jax.env.base import run
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.seen import run_seen, seen

SIDE = 16  # of the tiny network
TASK = ScriptedTask(image_size=40, tolerance=0.0)
ACTIONS = np.full((6, 7), 0.5, np.float32)


@pytest.fixture(scope="module")
def simulator():
    return TASK.build()


def test_a_policy_makes_the_same_of_them(simulator):
    first = simulator.start(3)
    whole = run(simulator, first.state, ACTIONS, 2, 3, 0)
    small = run_seen(simulator, SIDE, first.state, ACTIONS, 2, 3, 0)
    assert small.obs.images.shape == (2, SIDE, SIDE, 3)
    assert small.looks.shape == (1, 2, SIDE, SIDE, 3)
    make = transforms().images
    for mine, full in ((small.obs.images, whole.obs.images), (small.looks[0], whole.looks[0])):
        np.testing.assert_array_equal(mine, make(full))
        np.testing.assert_array_equal(make(mine), make(full))
    # A film is for people.
    np.testing.assert_array_equal(small.frames, whole.frames)
    np.testing.assert_array_equal(small.proprio, whole.proprio)


def test_after_success_there_is_nothing_to_see(simulator):
    over = ScriptedTask(image_size=40, tolerance=9.0).build()
    result = run_seen(over, SIDE, over.start(3).state, ACTIONS)
    assert result.success
    assert result.obs is None
    assert seen(result, SIDE).looks.size == 0
