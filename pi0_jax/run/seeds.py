"""Random streams of a run: pure functions of its seed, so that a resumed run draws the same."""

import numpy as np

_SEED_STRIDE = 10_000_000  # initial states between one run's seed and the next


def rng(seed: int, *key: int) -> np.random.Generator:
    """A generator of the run's seed and `key` alone.

    Args:
        seed: seed of the run.
        key: numbers that tell this draw from all others, such as (stream, optimizer step).
    """
    # A sequence as seed: NumPy hashes all numbers, so neighbouring keys give unrelated streams.
    return np.random.default_rng((seed, *key))


def first_state(seed: int, first_seed: int) -> int:
    """Seed of the first initial state of a training stream: every run seed has its own.

    Args:
        seed: seed of the run.
        first_seed: first state of the stream, for run seed 0.
    """
    return first_seed + _SEED_STRIDE * seed
