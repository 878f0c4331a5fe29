"""Frozen leaves: no update changes them, so a checkpoint leaves them out where the base has them.

The base is a policy folder inside the run folder. Which one it was is known by a digest of the
leaves themselves: a folder may be moved, copied or written again.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.hosts import talk
from pi0_jax.training.optimizer import Rules
from pi0_jax.training.step import Params, split

_BLOCK = 2**26  # bytes that one thread digests at a time
_THREADS = 8  # hashlib lets other threads run meanwhile


@dataclass(frozen=True)
class Frozen:
    """Frozen leaves of a base policy.

    Attributes:
        leaves: slash-joined path in the parameters -> array, as the base has it.
    """

    leaves: Mapping[str, Any]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of paths, dtypes, shapes and values, in 64 hex digits; computed when needed."""
        whole = hashlib.sha256()
        with ThreadPoolExecutor(_THREADS) as threads:
            for path in sorted(self.leaves):
                leaf = np.asarray(self.leaves[path])
                whole.update(f"{path} {leaf.dtype.name} {leaf.shape}\n".encode())
                for digest in threads.map(_sha256, _blocks(leaf)):
                    whole.update(digest)
        return whole.hexdigest()


NOTHING = Frozen({})


def left_out(params: Params, rules: Rules, home: Path | None, run: Path) -> Frozen:
    """What the checkpoints of a training leave out: its frozen leaves, or nothing.

    Args:
        params: whole parameter tree of the policy that the training starts from.
        rules: learning-rate rules, which decide the frozen leaves.
        home: the folder of that policy; None where it has none.
        run: the run folder. What lies elsewhere may be gone when it is needed again.
    """
    inside = home is not None and home.resolve().is_relative_to(run.resolve())
    # Of several hosts the first alone has the run folder, and all leave out the same.
    if not talk.first(lambda: inside):
        return NOTHING
    return Frozen(split(params, rules)[1])


def _blocks(leaf: np.ndarray) -> Iterator[np.ndarray]:
    """The bytes of an array, uint8[at most _BLOCK] each."""
    flat = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]


def _sha256(block: np.ndarray) -> bytes:
    return hashlib.sha256(block.data).digest()
