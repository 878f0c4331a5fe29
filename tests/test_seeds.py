"""Random streams: functions of the run's seed and a key alone."""

from pi0_jax.run.seeds import first_state, rng


def test_a_generator_belongs_to_its_seed_and_key():
    assert rng(3, 1, 2).random() == rng(3, 1, 2).random()
    others = [rng(3, 1, 2), rng(3, 2, 1), rng(4, 1, 2), rng(3, 1), rng(3)]
    assert len({one.random() for one in others}) == 5


def test_initial_states_of_two_run_seeds_are_ten_million_apart():
    assert first_state(0, 200_000) == 200_000
    assert first_state(2, 200_000) == 20_200_000
