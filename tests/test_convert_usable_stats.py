"""Statistics become those of one robot, in which every dimension has a spread."""

import numpy as np
import pytest
from checkpoints import ROBOT

from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.into.usable_stats import divisible, of_robot
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError


def stats(own: int, width: int | None = None, std: float = 1.0) -> Stats:
    """Mean 0.5, quantiles -1 and 1, zero-padded to `width`."""
    extra = (0, (width or own) - own)
    each = (np.full(own, 0.5), np.full(own, std), -np.ones(own), np.ones(own))
    return Stats(*(np.pad(values, extra) for values in each))


def found(state: Stats, actions: Stats) -> FoundStats:
    return FoundStats(NormStats(state, actions), "robot", "file")


@pytest.mark.parametrize("width", [None, 32])
def test_padding_is_cut_off(width: int | None) -> None:
    own = of_robot(found(stats(4, width), stats(3, width)), ROBOT).stats
    assert (own.state.mean.shape, own.actions.std.shape) == ((4,), (3,))
    assert own.actions.q01 is not None and own.actions.q01.shape == (3,)


def test_a_dimension_that_never_moves_still_counts() -> None:
    still = Stats(np.zeros(3), np.array([1.0, 1.0, 0.0]))
    assert len(of_robot(found(stats(4), still), ROBOT).stats.actions.mean) == 3


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (stats(2), "of actions are of 2 values, the robot has 3"),
        (stats(4), "of actions are of 4 values, the robot has 3"),
        (stats(4, 32), "of actions are of 32 values, the robot has 3"),
    ],
)
def test_statistics_of_another_robot(actions: Stats, message: str) -> None:
    with pytest.raises(InputError, match=message):
        of_robot(found(stats(4), actions), ROBOT)


def test_a_spread_below_the_floor_is_refused_or_raised() -> None:
    small = found(stats(2), stats(2, std=1e-9))
    with pytest.raises(InputError, match=r"below 0.0001: actions\[0\] has 1e-09, actions\[1\]"):
        divisible(small, quantile=False, floor=None)
    raised, notes = divisible(small, quantile=False, floor=0.01)
    assert raised.stats.actions.std.tolist() == [0.01, 0.01]
    assert raised.stats.state.std.tolist() == [1, 1]
    assert notes == [
        "standard deviation raised to 0.01: actions[0] has 1e-09, actions[1] has 1e-09"
    ]


def test_a_floor_below_what_is_there_changes_nothing() -> None:
    small = found(stats(2), stats(2, std=1e-6))
    assert divisible(small, quantile=False, floor=1e-7) == (small, [])
    assert divisible(small, quantile=False, floor=0.0) == (small, [])


def test_only_what_divides_is_looked_at() -> None:
    # A gripper that is nearly always shut: no range between its quantiles, but a deviation.
    shut = Stats(np.zeros(1), np.ones(1), np.zeros(1), np.zeros(1))
    each = found(stats(1), shut)
    assert divisible(each, quantile=False, floor=None) == (each, [])
    with pytest.raises(InputError, match="half quantile range below"):
        divisible(each, quantile=True, floor=None)
    raised, _ = divisible(each, quantile=True, floor=0.5)
    assert (raised.stats.actions.q01, raised.stats.actions.q99) == ([-0.5], [0.5])


def test_quantiles_that_are_needed_and_missing() -> None:
    none = Stats(np.zeros(1), np.ones(1))
    with pytest.raises(InputError, match="these statistics have no q01 and q99"):
        divisible(found(none, none), quantile=True, floor=None)
