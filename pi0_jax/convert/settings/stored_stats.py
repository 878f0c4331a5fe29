"""Statistics that a PyTorch library stores as tensors, checked as they are read."""

from collections.abc import Mapping

import numpy as np

from pi0_jax.data.normalize import Stats, check_stats
from pi0_jax.errors import InputError

FIELDS = ("mean", "std", "q01", "q99")
_MODE = "read by a way of normalising that is refused by its name"
UNREAD_FIELDS = {
    "min": _MODE,
    "max": _MODE,
    "q10": _MODE,
    "q90": _MODE,
    "q50": "the middle, by which nothing is normalised",
    "count": "the number of samples",
}
"""What is stored beside `FIELDS`, with the reason why nothing here reads it."""

_FLOATS = ("float32", "float64", "bfloat16", "float16")


def check_dtype(key: str, dtype: str, where: object) -> None:
    """Checks that statistics are real numbers: cut to whole ones, or to 0 and 1, they are others.

    Raises:
        InputError: they are not.
    """
    if dtype not in _FLOATS:
        raise InputError(f"{where}: {key} is {dtype}, expected {', '.join(_FLOATS)}")


def stats_from(tensors: Mapping[str, np.ndarray], name: str, where: str) -> Stats | None:
    """Statistics of one quantity; None if there are none of it.

    Args:
        tensors: such as "action.mean" to float64[d].
        name: of the quantity, such as "action".
        where: the file, for messages.

    Raises:
        InputError: mean or std is missing, they were never set (infinite), or they are impossible.
    """
    found = {key: tensors[f"{name}.{key}"] for key in FIELDS if f"{name}.{key}" in tensors}
    if not found:
        return None
    if not {"mean", "std"} <= found.keys():
        raise InputError(
            f"{where}: statistics of {name} without mean and std; give --norm-stats FILE"
        )
    if len({x.shape for x in found.values()}) > 1 or found["mean"].ndim != 1:
        raise InputError(f"{where}: mean, std and quantiles of {name} of different widths")
    # lerobot creates its buffers filled with infinity and expects them to be loaded.
    if not all(np.isfinite(x).all() for x in found.values()):
        raise InputError(
            f"{where}: the statistics of {name} were never set (they are infinite); give "
            "--norm-stats FILE"
        )
    stats = Stats(**found)
    if problem := check_stats(stats):
        raise InputError(f"{where}: statistics of {name}: {problem}")
    return stats


def same_actions(output: Stats, target: Stats | None, where: str) -> None:
    """Checks statistics of actions that one file has twice.

    Args:
        output: those that turn the network's outputs back into actions.
        target: those that normalised the targets of training; None if there are none.
        where: the file, for messages.

    Raises:
        InputError: they differ.
    """
    if target is None:
        return
    pairs = ((getattr(output, key), getattr(target, key)) for key in FIELDS)
    for ours, theirs in pairs:
        if (ours is None) != (theirs is None) or (
            ours is not None and not np.array_equal(ours, theirs)
        ):
            raise InputError(
                f"{where}: the statistics of actions differ between input and output; "
                "give --norm-stats FILE"
            )
