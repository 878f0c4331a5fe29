"""Batches ahead of need: in order, no other ones, and none after the end."""

import threading

import pytest

from pi0_jax.data.ahead import Ahead


def test_the_next_batches_are_made_while_the_first_is_used():
    made, third = [], threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 7:
            third.set()
        return step * step

    with Ahead(make, end=9, depth=2) as batch_of:
        assert batch_of(5) == 25
        assert third.wait(10)  # 6 and 7 without being asked for
        assert made == [5, 6, 7]
        assert [batch_of(step) for step in (6, 7, 8)] == [36, 49, 64]
    assert made == [5, 6, 7, 8]  # each once, and none behind the end


def test_a_resumed_run_gets_the_very_next_batch():
    with Ahead(str, end=100) as batch_of:
        before = [batch_of(step) for step in range(5)]
    with Ahead(str, end=100) as batch_of:
        assert before + [batch_of(step) for step in range(5, 8)] == list("01234567")


def test_a_jump_and_a_step_behind_the_end_are_made_on_demand():
    with Ahead(str, end=4) as batch_of:
        assert [batch_of(step) for step in (0, 3, 1, 9)] == ["0", "3", "1", "9"]


def test_an_error_belongs_to_its_step():
    def make(step: int) -> int:
        if step == 1:
            raise ValueError("picture 1 is damaged")
        return step

    with Ahead(make, end=3) as batch_of:
        assert batch_of(0) == 0
        with pytest.raises(ValueError, match="picture 1"):
            batch_of(1)
        assert batch_of(2) == 2
