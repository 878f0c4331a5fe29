"""Compiles all that a server may be asked for, before it listens."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pi0_jax.episode import RawObs
from pi0_jax.policy.ongoing import Ongoing
from pi0_jax.policy.policy import Policy
from pi0_jax.serve.request import Rules

_CALLS = 3  # that are timed, after the one that compiles


def scales_to_compile(rules: Rules) -> tuple[float, ...]:
    """One guidance scale per program that requests may need.

    0 and 1 run one branch each, all others share a program of two.
    """
    low, high = rules.guidance
    plain = [scale for scale in (0.0, 1.0) if low <= scale <= high]
    between = (rules.default.guidance, low, high, (low + high) / 2)
    other = [scale for scale in between if scale not in (0.0, 1.0)]
    return (*plain, *other[:1])


def warm_up(
    policy: Policy, scales: tuple[float, ...], real_time: bool = False
) -> Iterator[tuple[float, float, float]]:
    """Calls the policy at every scale.

    Args:
        policy: with the number of flow steps that is timed; another number compiles nothing.
        scales: of `scales_to_compile`.
        real_time: time the programs that continue a chunk.

    Yields:
        Scale, seconds of the first call (it compiles), and the fewest seconds of the later ones.

    Raises:
        InputError: a scale needs a reference that the policy lacks.
    """
    robot, side = policy.robot, policy.transforms.image_size
    blank = RawObs(
        np.zeros((len(robot.cameras), side, side, 3), np.uint8),
        np.asarray(policy.transforms.stats.state.mean[: len(robot.state)], np.float32),
        "",
    )
    # One action of the robot's, of which nothing is decided yet.
    still = Ongoing(np.zeros((1, len(robot.actions)), np.float32), 0)
    ongoing = [still] * policy.rows if real_time else None
    for scale in scales:
        guided, seconds = replace(policy, guidance=scale), []
        for _ in range(1 + _CALLS):
            began = time.monotonic()
            guided.act([blank] * policy.rows, ongoing=ongoing)
            seconds.append(time.monotonic() - began)
        yield scale, seconds[0], min(seconds[1:])
