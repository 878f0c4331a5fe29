"""Seeds above 32 bits: run seed 430 and above have them."""

import numpy as np

from pi0_jax.env.seed_words import seed_words


def test_small_seeds_stay_what_they_are():
    assert seed_words(7) == 7
    assert seed_words(2**32 - 1) == 2**32 - 1


def test_large_seeds_are_two_words_each_with_draws_of_its_own():
    assert seed_words(2**32) == [0, 1]
    assert seed_words(3 * 2**32 + 5) == [5, 3]
    seeds = (5, 2**32 + 5, 2 * 2**32 + 5, 200_000 + 10_000_000 * 430)
    drawn = {np.random.RandomState(seed_words(seed)).uniform() for seed in seeds}
    assert len(drawn) == 4
