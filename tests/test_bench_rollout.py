"""The rollout benchmark: it counts right, and it compares like with like."""

import sys
from pathlib import Path

import numpy as np
import pytest
from skips import slow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import rollout as bench

from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedSimulator, ScriptedTask

TASK = ScriptedTask(image_size=16, tolerance=0.0)


def test_rates_of_a_round():
    """100 steps in 2 episodes; 4 s and 1 s of starts; half a core worked."""
    cost = bench.Cost(2, 100, 1.0, 4.0, 2.0)
    assert cost.steps_per_s == 25.0
    assert cost.cpu_ms == 20.0
    assert cost.episodes_per_min == 24.0


@pytest.mark.parametrize("chunk", [1, 4, 50])
def test_chunks_change_nothing_but_the_cost(scripted_pool, chunk):
    episodes = [(seed, bench.random_actions(seed, 10)) for seed in range(5)]
    cost, ends = bench.ours(scripted_pool, TASK, episodes, chunk)
    assert (cost.episodes, cost.steps) == (5, 50)
    assert min(cost.start_s, cost.wall_s) > 0
    for (seed, actions), end in zip(episodes, ends, strict=True):
        simulator = ScriptedSimulator(TASK)
        simulator.start(seed)
        for action in actions:
            simulator.step(action)
        assert end.state.hash == simulator.save().hash


def test_steps_after_success_are_not_counted(scripted_pool):
    """Every step succeeds, so the first ends the episode."""
    easy = ScriptedTask(image_size=16, tolerance=9.0)
    cost, _ = bench.ours(scripted_pool, easy, [(0, bench.random_actions(0, 10))], 4)
    assert cost.steps == 1


def test_a_simulator_that_fails_is_no_result(scripted_pool):
    with pytest.raises(RuntimeError, match="expected finite actions"):
        bench.ours(scripted_pool, TASK, [(0, np.full((2, 7), np.nan))], 1)


def test_the_table(capsys):
    own = [bench.Cost(1, 10, 1.0, 5.0, 5.0), bench.Cost(1, 10, 1.0, 9.0, 5.0)]
    costs = {"own loop": own, "ours": [bench.Cost(1, 10, 1.0, 1.0, 0.5)]}
    bench.show("one process", costs)
    _, heading, first, second = capsys.readouterr().out.split("\n")[:4]
    assert heading.startswith("one process: ")
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "own loop", "2.0", "1.00", "500.00", "1.00", "1.00", "10.0",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.split("|")[1:-1]] == [
        "ours", "10.0", "5.00", "50.00", "10.00", "0.50", "30.0",
    ]  # fmt: skip


@slow
def test_the_own_loop_of_lift_ends_in_the_same_state(capsys):
    assert bench.compare_loops(LiftTask(image_size=32), 12, 1, choose_renderer())
    lines = [
        line.split("|")[1].strip() for line in capsys.readouterr().out.split("\n") if "|" in line
    ]
    assert lines == ["own loop", "chunks of 5", "chunks of 10", "chunks of 50"]
