"""Evaluation during RL: which iterations, which states, and the numbers by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from loops import EASY, HOPELESS, MIXED
from tiny import episode, policy_folder

from pi0_jax.env.base import Task
from pi0_jax.errors import InputError
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.evaluation import evaluate_every, success_values
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_states
from pi0_jax.rollout.policy_use import USE
from pi0_jax.training.step import TrainState


def config(every: int, **changes) -> EvalConfig:
    values = {"episodes": 2, "first_seed": 100, "guidance": (3.0,), "num_flow_steps": 1}
    return EvalConfig(**values | {"videos": 0, "every": every} | changes)


def evaluated(pool, params, every: int, tasks: list[Task], iterations: int, **changes):
    """(iteration, values) of each evaluation in a loop that ends every iteration alike."""
    found = []
    callback = evaluate_every(
        config(every, **changes), policy_folder(params), tasks, pool, 8,
        lambda report, values: found.append((report.iteration, values)),
    )  # fmt: skip
    state = SimpleNamespace(train_state=TrainState(0, params, ()))
    for iteration in range(1, iterations + 1):
        callback(state, SimpleNamespace(iteration=iteration))
    return found


def test_every_nth_iteration_is_evaluated(scripted_pool, params):
    found = evaluated(scripted_pool, params, 2, [EASY], 5)
    assert [iteration for iteration, _ in found] == [2, 4]
    assert found[0][1].pop("seconds_eval") > 0
    assert all(found[0][1].pop(name) >= 0 for name in USE)
    assert found[0][1] == {
        "eval_success": 1.0, "eval_success/scripted": 1.0, "eval_episodes": 2, "eval_errors": 0,
    }  # fmt: skip


def test_the_states_are_those_of_the_final_evaluation_at_guidance_1(scripted_pool, params):
    """One evaluation by hand; the scale of `config.guidance` has no part in it."""
    (_, values), *_ = evaluated(scripted_pool, params, 1, [MIXED], 1, episodes=6)
    policy = Policy.from_folder(policy_folder(params), 1.0, num_flow_steps=1, rows=8)
    states = [(MIXED, seed) for seed in range(100, 106)]
    episodes = evaluate_states(policy, scripted_pool, states, 3)
    assert [e.seed for e in episodes] == list(range(100, 106))
    assert values["eval_success"] == np.mean([e.success for e in episodes])


def test_success_is_counted_over_valid_episodes_of_each_task():
    good, bad = episode(2, [0], success=True), episode(2, [0])
    broken = episode(2, [0], error="broken", task="other")
    values = success_values([good, bad, bad, bad, broken])
    assert np.isnan(values.pop("eval_success/other"))  # written as null
    assert values == {
        "eval_success": 0.25, "eval_success/scripted": 0.25, "eval_episodes": 4, "eval_errors": 1,
    }  # fmt: skip


def test_too_many_executed_actions_are_refused_before_the_loop(params):
    with pytest.raises(
        InputError, match=r"eval\.execute_steps must be between 1 and the action horizon 4"
    ):
        evaluated(None, params, 1, [HOPELESS], 0, execute_steps=5)
