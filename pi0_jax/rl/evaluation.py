"""Evaluation during RL: a callback of the loop that changes no bit of the training."""

import time
from collections.abc import Callable, Sequence

from pi0_jax.env.base import Engine, Task
from pi0_jax.episode import Episode, success_by_task, success_rate
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.loop import IterationReport, OnIteration
from pi0_jax.rl.setup import LoopState
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_states
from pi0_jax.rollout.policy_use import PolicyUse
from pi0_jax.training.fit import final_params

_GUIDANCE = 1.0  # one scale: a curve needs no more, and every scale costs all episodes again


def evaluate_every(
    config: EvalConfig,
    base: PolicyFolder,
    tasks: Sequence[Task],
    engine: Engine,
    rows: int,
    log: Callable[[IterationReport, dict[str, float]], None],
) -> OnIteration:
    """A callback that evaluates the policy every `config.every` iterations.

    The states are those of the final evaluation, `config.first_seed` and on, at guidance 1 and
    with the same noise every time, so the points of a curve are paired. At a loop's last
    iteration it finds what the final evaluation finds, unless `rl.max_drop` went back to an earlier
    policy. Episodes are not kept.

    Args:
        config: states, flow steps, and how often: `every` is at least 1.
        base: the policy that the loop started from.
        tasks: what the policy is evaluated on.
        engine: runs the simulators; nothing else is under way between two iterations.
        rows: observations per call of the policy.
        log: called with the iteration's report and the values of `success_values`, together with
            "seconds_eval" and how the policy was used.

    Raises:
        InputError: more actions are to be executed than a chunk has.
    """
    execute_steps = config.executed(base.spec)
    # Its parameters stay on the host; each evaluation brings those of the loop's state.
    idle = Policy(
        Pi0(base.spec.model), base.params, base.transforms, _GUIDANCE, config.num_flow_steps, rows
    )

    def evaluate(state: LoopState, report: IterationReport) -> None:
        """Evaluates the state after an iteration, where it is that iteration's turn."""
        # By the iteration's number alone, so a resumed run evaluates at the same ones.
        if report.iteration % config.every:
            return
        start = time.monotonic()
        # What `improved_policy` would give now: averaged, adapters merged.
        policy = idle.with_params(final_params(state.train_state))
        # No random stream of the training is read, and simulators start from the states' seeds.
        use = PolicyUse()
        states = config.states(tasks)
        episodes = evaluate_states(policy, engine, states, execute_steps, use=use)
        took = {"seconds_eval": time.monotonic() - start, **use.metrics()}
        log(report, {**success_values(episodes), **took})

    return evaluate


def success_values(episodes: Sequence[Episode]) -> dict[str, float]:
    """Success rates as values for metrics: of all valid episodes, and of each task.

    Args:
        episodes: all episodes of one evaluation; those with a simulator error count as errors
            only.
    """
    valid = sum(episode.error is None for episode in episodes)
    return {
        "eval_success": success_rate(episodes),
        **{f"eval_success/{task}": rate for task, rate in success_by_task(episodes).items()},
        "eval_episodes": valid,
        "eval_errors": len(episodes) - valid,
    }
