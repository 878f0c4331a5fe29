"""Seeds of any size for NumPy's old generators, from which simulators draw their initial states."""

_WORD = 2**32


def seed_words(seed: int) -> int | list[int]:
    """A seed as `np.random.seed` and `RandomState` take it: 32 bits, or two words of them.

    Args:
        seed: below 2^64. Run seeds lie 10^7 initial states apart, so 32 bits end at run seed 429.
    """
    return seed if seed < _WORD else [seed % _WORD, seed // _WORD]
