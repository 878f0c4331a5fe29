"""Strict checks of trees: every leaf once, in its shape, finite, or one error with all problems.

Trees and checkpoints are compared as flat maps from a leaf's name to its shape.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.types import path_name

Shapes = Mapping[str, tuple[int, ...]]

WEIGHT_DTYPES = ("float32", "bfloat16", "float16")

# Elements per check. One megabyte at a time keeps the temporary array in the processor's cache.
_STEP = 2**19


def compare(expected: Shapes, found: Shapes) -> list[str]:
    """One line for each leaf that is missing, left over, or of another shape.

    Args:
        expected: name to shape; a size of 0 is unknown.
        found: name to shape.
    """
    problems = [f"missing {key}, {_text(expected[key])}" for key in sorted(expected.keys() - found)]
    problems += [
        f"unexpected {key}, {_text(found[key])}" for key in sorted(found.keys() - expected)
    ]
    return problems + [
        f"{key}: expected {_text(expected[key])}, got {_text(found[key])}"
        for key in sorted(expected.keys() & found.keys())
        if expected[key] != found[key]
    ]


def dtypes(found: Mapping[str, str]) -> list[str]:
    """One line for each leaf that is no floating-point weight; `found` is name to dtype name."""
    return [
        f"{key}: expected dtype {' or '.join(WEIGHT_DTYPES)}, got {dtype}"
        for key, dtype in sorted(found.items())
        if dtype not in WEIGHT_DTYPES
    ]


def not_finite(arrays: Iterable[tuple[str, np.ndarray]]) -> list[str]:
    """One line for each named array that holds a NaN or an infinity."""
    return [f"{name}: NaN or infinity" for name, values in arrays if not is_finite(values)]


def is_finite(x: np.ndarray) -> bool:
    """No NaN and no infinity in an array of any floating dtype."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    if x.dtype.name != "bfloat16":
        return bool(np.isfinite(x).all())
    # bfloat16 is not NumPy's own type: its exponent bits are all ones where it is not finite.
    bits = x.reshape(-1).view(np.uint16)
    return all((bits[i : i + _STEP] & 0x7FFF).max() < 0x7F80 for i in range(0, bits.size, _STEP))


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Slash-joined path of each leaf of nested dicts, in the tree's order, to the leaf."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path): leaf for path, leaf in leaves}


def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    """Slash-joined path of each leaf to its shape."""
    return {name: tuple(leaf.shape) for name, leaf in leaves_by_path(tree).items()}


def check_tree(tree: Any, expected: Shapes, where: object) -> None:
    """Checks that a tree has every expected leaf, in its shape and finite, and no other leaf.

    Args:
        tree: nested dicts of host arrays.
        expected: path to shape.
        where: where the tree came from, for the message.

    Raises:
        InputError: one error that lists every missing, unexpected, misshapen or non-finite leaf.
    """
    leaves = leaves_by_path(tree)
    problems = compare(expected, {name: tuple(leaf.shape) for name, leaf in leaves.items()})
    problems += not_finite((name, np.asarray(leaf)) for name, leaf in leaves.items())
    if problems:
        fail(where, problems)


def fail(where: object, problems: Iterable[str]) -> NoReturn:
    """Raises one error for all problems.

    Raises:
        InputError: always; every problem in one line.
    """
    found = list(problems)
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    raise InputError(f"{where}: {count}: " + "; ".join(found))


def _text(shape: tuple[int, ...]) -> str:
    return f"shape [{', '.join(str(size) if size else '?' for size in shape)}]"
