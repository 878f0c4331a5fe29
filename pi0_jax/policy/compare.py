"""Where two policies differ: settings by name, leaves by their bits."""

import dataclasses
from typing import Any

import numpy as np

from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.policy.folder import PolicyFolder

_LONGEST = 60  # characters of a value that is shown in a message
_STEP = 2**19  # elements of a leaf that are compared at a time


def same_policy(a: PolicyFolder, b: PolicyFolder) -> bool:
    """Whether two policies act alike: settings, statistics and the bits of all leaves are equal."""
    if difference("spec", a.spec, b.spec) or difference("statistics", a.stats, b.stats):
        return False
    return _same_trees(a.params, b.params) and _same_trees(a.reference, b.reference)


def _same_trees(a: Any, b: Any) -> bool:
    ours, theirs = leaves_by_path(a), leaves_by_path(b)
    return ours.keys() == theirs.keys() and all(same_bits(ours[n], theirs[n]) for n in ours)


def difference(name: str, ours: Any, theirs: Any) -> str:
    """The first difference of two values, by name; "" if they are equal.

    Args:
        name: of both, for the text.
        ours: a value, an array or a dataclass of them.
        theirs: another.
    """
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        return "" if np.array_equal(ours, theirs) else f"{name} is another than the policy's"
    if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
        parts = (entry.name for entry in dataclasses.fields(ours))
        found = (difference(f"{name}.{n}", getattr(ours, n), getattr(theirs, n)) for n in parts)
        return next(filter(None, found), "")
    if ours == theirs:
        return ""
    if max(len(repr(ours)), len(repr(theirs))) > _LONGEST:
        return f"{name} is another than the policy's"
    return f"{name} is {theirs!r}, the policy's {ours!r}"


def same_bits(a: Any, b: Any) -> bool:
    """Whether two leaves are the same array, or the same bits."""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and _same_pieces(a, b))


def same_rounded(narrow: Any, wide: Any) -> bool:
    """Whether `narrow` is `wide` as its own, smaller dtype rounds it, to the bit."""
    smaller = narrow.dtype.itemsize < wide.dtype.itemsize
    return smaller and narrow.shape == wide.shape and _same_pieces(narrow, wide)


def _same_pieces(a: Any, b: Any) -> bool:
    # Piece by piece: the leaves of an action expert differ in their first, and a leaf of the VLM
    # would need a gigabyte for the comparison.
    ours, theirs = (np.ascontiguousarray(x).reshape(-1) for x in (a, b))
    bits = f"u{ours.dtype.itemsize}"

    def same(piece: slice) -> bool:
        """Of the same dtype, `astype` copies no value."""
        rounded = theirs[piece].astype(ours.dtype, copy=False)
        return np.array_equal(ours[piece].view(bits), rounded.view(bits))

    return all(same(slice(i, i + _STEP)) for i in range(0, ours.size, _STEP))
