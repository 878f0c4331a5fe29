"""Makes found statistics those of one robot: its width, and no dimension that cannot be divided by.

Widths are never inferred from zeros: a robot may have a dimension that never moves.
"""

from dataclasses import replace

import numpy as np

from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot

SMALLEST_STD = 1e-4
"""Standard deviations, and half quantile ranges, below this are refused unless a floor is given.

Units of the state or action, such as m or rad. A dimension that moves less is noise or stands
still: 1 mm beside its mean would become 10 standard deviations, and openpi's 1e-6 shows in it.
"""


def of_robot(found: FoundStats, robot: Robot) -> FoundStats:
    """Statistics cut to the robot's own width.

    Args:
        found: as wide as the robot, or zero-padded to the width of a model.
        robot: the robot.

    Raises:
        InputError: they are of more values than the robot has, or of fewer.
    """
    stats = found.stats
    return found._replace(
        stats=NormStats(
            _cut(stats.state, len(robot.state), "state", found.where),
            _cut(stats.actions, len(robot.actions), "actions", found.where),
        )
    )


def divisible(
    found: FoundStats, *, quantile: bool, floor: float | None
) -> tuple[FoundStats, list[str]]:
    """Statistics in which every dimension has a spread.

    Args:
        found: statistics of the robot's own width.
        quantile: whether the policy normalises by quantiles.
        floor: what smaller spreads are raised to, 0 to keep them all; None to refuse those below
            `SMALLEST_STD`.

    Returns:
        The statistics, and notes of what was raised.

    Raises:
        InputError: quantiles are needed and missing, or a spread is too small and no floor given.
    """
    least = SMALLEST_STD if floor is None else floor
    small, parts = [], {}
    for name in ("state", "actions"):
        stats: Stats = getattr(found.stats, name)
        spread = _spread(stats, quantile, found.where)
        small += [f"{name}[{i}] has {spread[i]:.3g}" for i in np.flatnonzero(spread < least)]
        parts[name] = _raised(stats, least, quantile)
    if not small:
        return found, []
    what = "half quantile range" if quantile else "standard deviation"
    if floor is None:
        raise InputError(
            f"{found.where}: a {what} below {SMALLEST_STD:g}: {', '.join(small)}; such a dimension "
            "would blow up rounding errors: give --std-floor X to raise it, 0 to keep it as openpi "
            "does, or --norm-stats FILE"
        )
    note = f"{what} raised to {floor:g}: {', '.join(small)}"
    return found._replace(stats=NormStats(**parts)), [note]


def _cut(stats: Stats, own: int, name: str, where: str) -> Stats:
    named = {"mean": stats.mean, "std": stats.std, "q01": stats.q01, "q99": stats.q99}
    fields = {key: values for key, values in named.items() if values is not None}
    # Padding has mean, deviation and quantiles 0.
    if own > len(stats.mean) or any(values[own:].any() for values in fields.values()):
        raise InputError(
            f"{where}: statistics of {name} are of {len(stats.mean)} values, the robot has {own}"
        )
    return Stats(**{key: values[:own] for key, values in fields.items()})


def _spread(stats: Stats, quantile: bool, where: str) -> np.ndarray:
    """float64[d]: what normalisation divides by."""
    if not quantile:
        return stats.std
    if stats.q01 is None or stats.q99 is None:
        raise InputError(
            f"{where}: the policy normalises by quantiles and these statistics have no q01 and "
            "q99; give --norm-stats FILE with them"
        )
    return (stats.q99 - stats.q01) / 2


def _raised(stats: Stats, floor: float, quantile: bool) -> Stats:
    if not quantile or stats.q01 is None or stats.q99 is None:
        return replace(stats, std=np.maximum(stats.std, floor))
    middle = (stats.q01 + stats.q99) / 2
    return replace(
        stats,
        q01=np.minimum(stats.q01, middle - floor),
        q99=np.maximum(stats.q99, middle + floor),
    )
