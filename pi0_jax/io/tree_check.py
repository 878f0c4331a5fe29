"""Strict accounting: every key once, every shape right, every value finite, or one full list."""

from collections.abc import Iterable, Mapping
from typing import NoReturn

import numpy as np

from pi0_jax.errors import InputError

WEIGHT_DTYPES = ("float32", "bfloat16", "float16")

# A megabyte or so at a time keeps the temporary of a check in the processor's cache.
_STEP = 2**19


def compare(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """One line for each key missing, left over, or of another shape.

    Args:
        expected: key to shape; a size of 0 is one that could not be told.
        found: key to shape.
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
    """One line for each tensor that is no floating-point weight."""
    return [
        f"{key}: expected dtype {' or '.join(WEIGHT_DTYPES)}, got {dtype}"
        for key, dtype in sorted(found.items())
        if dtype not in WEIGHT_DTYPES
    ]


def is_finite(x: np.ndarray) -> bool:
    """No NaN and no infinity in an array of any floating dtype."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    if x.dtype.name != "bfloat16":
        return bool(np.isfinite(x).all())
    # bfloat16 is no type of NumPy's own: its exponent is all ones where it is not finite.
    bits = x.reshape(-1).view(np.uint16)
    return all((bits[i : i + _STEP] & 0x7FFF).max() < 0x7F80 for i in range(0, bits.size, _STEP))


def _text(shape: tuple[int, ...]) -> str:
    return f"shape [{', '.join(str(size) if size else '?' for size in shape)}]"


def fail(where: object, problems: Iterable[str]) -> NoReturn:
    """Raises the one error.

    Raises:
        InputError: always; every problem in one line.
    """
    found = list(problems)
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    raise InputError(f"{where}: {count}: " + "; ".join(found))
