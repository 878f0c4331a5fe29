"""When to stop: updates that run away from the rollouts."""

from collections.abc import Mapping


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
