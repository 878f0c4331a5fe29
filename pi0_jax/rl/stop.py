"""When to stop: updates that run away from the rollouts, and rollouts that get worse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pi0_jax.episode import Episode


@dataclass(frozen=True)
class Outcome:
    """How the rollouts of one iteration ended; all fields are JSON values.

    Attributes:
        successes: successful episodes.
        episodes: valid episodes; those in which the simulator failed are not counted.
        optimizer_step: optimizer steps of RL that the policy had behind it.
    """

    successes: int
    episodes: int
    optimizer_step: int

    def __str__(self) -> str:
        return f"{self.successes} of {self.episodes}"


def outcome_of(episodes: Sequence[Episode], optimizer_step: int) -> Outcome:
    """The outcome of an iteration's rollouts, rejected groups included."""
    valid = [episode for episode in episodes if episode.error is None]
    return Outcome(sum(episode.success for episode in valid), len(valid), optimizer_step)


def best_iteration(outcomes: Sequence[Outcome]) -> int:
    """The iteration with the highest success rate, counted from 0; the first of equal ones.

    Args:
        outcomes: of iterations 1, 2, ...; at least one. One without a valid episode is never the
            best of several.
    """
    rates = [one.successes / one.episodes if one.episodes else -1.0 for one in outcomes]
    return rates.index(max(rates))


def drop(outcomes: Sequence[Outcome]) -> float:
    """How many standard errors the newest iteration's success lies below the best one's.

    With p the rate of both iterations together, it is (p_best - p_newest) / s, where

        s = sqrt(p (1 - p) (1 / n_best + 1 / n_newest))

    is the standard error of the difference of two binomial proportions that have one rate. Unlike
    that from the two rates it is never 0 where they differ.

    Args:
        outcomes: of iterations 1, 2, ...

    Returns:
        0 for the best iteration itself, and where the newest has no valid episode.
    """
    best, newest = outcomes[best_iteration(outcomes)], outcomes[-1]
    if not newest.episodes:
        return 0.0
    n, m = best.episodes, newest.episodes
    fall = best.successes / n - newest.successes / m
    p = (best.successes + newest.successes) / (n + m)
    # Equal rates, 0 and 1 among them, where the error is 0 too.
    return fall / math.sqrt(p * (1 - p) * (1 / n + 1 / m)) if fall else 0.0


def has_dropped(outcomes: Sequence[Outcome], most: float) -> bool:
    """Whether success has fallen by more than `most` standard errors (`drop`); never for 0."""
    return bool(most and outcomes and drop(outcomes) > most)


def drop_line(outcomes: Sequence[Outcome]) -> str:
    """One line for a person: how far success has fallen, and which policy is kept."""
    best = best_iteration(outcomes)
    return (
        f"{outcomes[-1]} rollouts succeeded, {drop(outcomes):.1f} standard errors below the "
        f"{outcomes[best]} of iteration {best + 1}: training stops, and the policy of that "
        "iteration's rollouts is kept"
    )


def beyond(bounds: Mapping[str, float], values: Mapping[str, float]) -> list[str]:
    """What an update measured above its bound, such as ["drift 0.71 is above 0.5"].

    Args:
        bounds: metric -> largest value (`Objective.bounds`).
        values: metric -> measured value. A loss of one's own may not measure all of them.
    """
    return [
        f"{name} {values[name]:.3g} is above {bound:g}"
        for name, bound in bounds.items()
        if name in values and values[name] > bound
    ]
