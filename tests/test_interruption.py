"""A wish to stop: at once, or at the end of a block that must not be torn."""

import pytest

from pi0_jax.interruption import ask, deferred


def test_outside_of_a_block_the_work_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask()


def test_a_block_comes_to_its_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred("the end") as asked:
        done.append(asked())
        assert ask() == "the end"
        done.append(asked())
    assert done == [False, True]
    with deferred("the end") as asked:  # the wish was granted
        assert not asked()


def test_the_outer_of_two_blocks_ends_the_work() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred("the end") as asked:
        with deferred("another end"):
            assert ask() == "the end"
        done.append(asked())
    assert done == [True]


def test_an_error_in_a_block_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), deferred("the end"):
        ask()
        1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), deferred("the end"):
        pass
