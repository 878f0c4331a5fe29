"""Open-loop errors, by hand."""

import numpy as np

from pi0_jax.data.held_out import JudgedSteps
from pi0_jax.policy.open_loop import open_loop, scale_of, told_steps

ACTIONS = np.zeros((2, 3, 2))
MASK = np.array([[True, True, True], [True, False, False]])
STEPS = JudgedSteps([], ACTIONS, MASK)


def test_errors_by_step_and_dimension():
    """The second chunk has one step, so the later ones are of the first alone."""
    predicted = np.array([[[1.0, 0.0], [2.0, 0.0], [3.0, -6.0]], [[3.0, 4.0], [9.0, 9.0], [9, 9]]])
    found = open_loop(predicted, STEPS, np.array([2.0, 4.0]))
    assert found.at == (1, 3)
    np.testing.assert_allclose(found.errors, [[2.0, 2.0], [3.0, 6.0]])
    # Distances by deviation: 0.5, 1, 1.5, 1.5 of the first dimension, 0, 0, 1.5, 1 of the second.
    assert found.relative == (0.5 + 1 + 1.5 + 1.5 + 0 + 0 + 1.5 + 1) / 8


def test_a_dimension_that_never_moves_has_no_part_in_the_relative_error():
    predicted = ACTIONS + 1.0
    assert open_loop(predicted, STEPS, np.array([0.5, 0.0])).relative == 2.0
    assert np.isnan(open_loop(predicted, STEPS, np.zeros(2)).relative)


def test_steps_that_no_chunk_reaches_are_unknown():
    short = JudgedSteps([], ACTIONS, MASK & [True, True, False])
    found = open_loop(ACTIONS, short, np.ones(2))
    assert np.isnan(found.errors[1]).all() and found.relative == 0.0


def test_which_steps_are_told():
    assert told_steps(50) == (1, 10, 50)
    assert told_steps(10) == (1, 10)
    assert told_steps(1) == (1,)


def test_scale():
    parts = [np.array([[0.0], [2.0]]), np.array([[4.0]])]
    np.testing.assert_allclose(scale_of(parts), np.std([0, 2, 4]))
