"""The engine of this process: results, errors and order as a pool's."""

import pytest

from pi0_jax.env.base import Job, start
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.workers.in_process import InProcess

ONE, TWO = ScriptedTask(name="one"), ScriptedTask(name="two")


def broken(simulator):
    raise OSError("no picture\nand more")


def test_results_come_in_the_order_of_the_jobs():
    with InProcess() as engine:
        jobs = [Job(task, start, (seed,)) for seed in (1, 2) for task in (ONE, TWO)]
        found = engine.map(jobs)
        seen: list[int] = []
        engine.run_all(jobs, lambda over: seen.append(len(over)))
    assert seen == [1, 2, 3, 4]
    expected = [task.build().start(seed).state.hash for seed in (1, 2) for task in (ONE, TWO)]
    assert [result.state.hash for result in found] == expected


def test_gather_gives_each_job_once():
    engine = InProcess()
    tickets = [engine.submit(Job(ONE, start, (seed,))) for seed in range(3)]
    assert [done.ticket for done in engine.gather()] == tickets
    assert engine.gather(1.0) == []


def test_what_a_job_raises_is_an_error_of_the_simulator():
    engine = InProcess()
    (done,) = engine.run_all([Job(ONE, broken)])
    assert done.result is None
    assert done.error is not None and "no picture" in done.error and "\n" not in done.error
    with pytest.raises(RuntimeError, match="no picture"):
        engine.map([Job(ONE, broken)])
    assert engine.map([Job(ONE, start, (0,))])[0].obs is not None
