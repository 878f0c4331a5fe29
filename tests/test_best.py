"""Which checkpoints of RL stay besides the newest ones: values that a person can check by eye."""

from pi0_jax.rl.best import best_steps, kept_by_drop
from pi0_jax.rl.stop import Outcome

# Iterations 1 to 4 acted after 0, 1, 2 and 3 updates.
RISING = [Outcome(successes, 6, step) for step, successes in enumerate((2, 3, 4, 5))]
FALLING = [Outcome(successes, 6, step) for step, successes in enumerate((2, 5, 4, 3))]


def test_the_best_of_those_that_are_stored():
    assert best_steps(RISING, 20, [], "ript", {22, 23, 24}) == {23}
    assert best_steps(FALLING, 20, [], "ript", {21, 23, 24}) == {21}
    assert best_steps(FALLING, 20, [], "ript", {24}) == set()
    lines = [
        {"method": "ript", "step": step, "eval_success": rate}
        for step, rate in ((23, 0.9), (24, 0.2))
    ]
    assert best_steps(FALLING, 20, lines, "ript", {21, 23, 24}) == {21, 23}


def test_each_checkpoint_keeps_what_it_would_go_back_to():
    assert kept_by_drop(RISING, 4, {4}) == {3}
    assert kept_by_drop(RISING, 4, {3, 4}) == {2, 3}
    assert kept_by_drop(FALLING, 4, {3, 4}) == {1}
    # Before the first update there was no checkpoint.
    assert kept_by_drop(RISING[:1], 1, {1}) == set()
