"""When to stop: on numbers that can be worked out."""

import dataclasses
import math

import numpy as np
import pytest
from tiny import episode

from pi0_jax.rl.stop import (
    Outcome,
    best_iteration,
    beyond,
    drop,
    drop_line,
    has_dropped,
    outcome_of,
)


def outcomes(*pairs: tuple[int, int]) -> list[Outcome]:
    return [Outcome(*pair, optimizer_step=80 * i) for i, pair in enumerate(pairs)]


def test_an_outcome_counts_valid_episodes():
    good, bad = episode(4, [0], success=True), episode(4, [0])
    broken = dataclasses.replace(bad, error="broken")
    assert outcome_of([good, bad, bad, broken], 160) == Outcome(1, 3, 160)
    assert outcome_of([], 160) == Outcome(0, 0, 160)


def test_the_first_of_the_best_iterations():
    assert best_iteration(outcomes((5, 10), (8, 10), (4, 5), (7, 10))) == 1
    assert best_iteration(outcomes((0, 0), (0, 10))) == 1
    assert best_iteration(outcomes((0, 0))) == 0


@pytest.mark.parametrize(
    ("pairs", "errors"),
    [
        # Both together 100 of 200: the error is sqrt(1/4 * 2/100), of which 0.2 is sqrt(8).
        ([(60, 100), (40, 100)], math.sqrt(8)),
        # The iterations between do not matter.
        ([(60, 100), (50, 100), (40, 100)], math.sqrt(8)),
        # All of one against none of one: sqrt(1/4 * 2), where two rates of their own have error 0.
        ([(1, 1), (0, 1)], math.sqrt(2)),
        # Other numbers of episodes: 36 of 48 against 12 of 48, and of 16: 40 of 64 = 5/8.
        ([(36, 48), (4, 16)], 0.5 / math.sqrt(5 / 8 * 3 / 8 * (1 / 48 + 1 / 16))),
        ([(40, 100), (60, 100)], 0.0),
        ([(60, 100), (6, 10)], 0.0),
        ([(0, 10), (0, 10)], 0.0),
        ([(10, 10), (10, 10)], 0.0),
        # Every state was solved, and nothing was tried.
        ([(10, 10), (0, 0)], 0.0),
        ([(0, 0)], 0.0),
    ],
)
def test_how_far_success_has_fallen(pairs, errors):
    assert drop(outcomes(*pairs)) == pytest.approx(errors)


def test_when_a_fall_is_a_drop():
    fallen = outcomes((60, 100), (40, 100))
    assert has_dropped(fallen, 2.0)
    assert not has_dropped(fallen, 3.0)
    assert not has_dropped(fallen, 0.0)  # off
    assert not has_dropped([], 2.0)


@pytest.mark.parametrize(
    ("most", "iterations", "share"), [(2, 6, 0.21), (2, 12, 0.53), (3, 12, 0.06)]
)
def test_how_often_a_policy_that_stays_as_it_is_is_stopped(most, iterations, share):
    """As docs/objectives.md says, for 384 rollouts of which 80 % succeed: 1,000 runs."""
    draws = np.random.default_rng(0).binomial(384, 0.8, size=(1000, iterations)).tolist()
    runs = [outcomes(*[(successes, 384) for successes in run]) for run in draws]
    stopped = [any(has_dropped(run[: i + 1], most) for i in range(1, iterations)) for run in runs]
    # Four standard errors of the largest share here.
    assert np.mean(stopped) == pytest.approx(share, abs=0.065)


def test_what_is_said_of_it():
    assert drop_line(outcomes((50, 100), (60, 100), (40, 100))) == (
        "40 of 100 rollouts succeeded, 2.8 standard errors below the 60 of 100 of iteration 2: "
        "training stops, and the policy of that iteration's rollouts is kept"
    )


def test_what_lies_above_its_bound():
    assert beyond({"drift": 0.5}, {"drift": 0.714, "loss": 9.0}) == ["drift 0.714 is above 0.5"]
    assert beyond({"drift": 0.5}, {"drift": 0.5}) == []
    assert beyond({}, {"drift": 9.0}) == []
    # A loss of one's own, which measures something else.
    assert beyond({"drift": 0.5}, {"loss": 9.0}) == []
