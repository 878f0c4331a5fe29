"""The RIPT loop over pure steps: collect groups -> weigh -> cut windows -> update.

No run folder and no disk: `rl/stored_loop.py` adds them. One iteration in a notebook:

    setup, state = create_loop(policy, [task], engine, config, optimizer, loss=my_loss)
    state, report = run_iteration(setup, state)
    improved = improved_policy(setup, state)

Random streams, all of them functions of the run's seed and a position, so that any iteration can
be repeated alone: initial states (`run/seeds.py: first_state`); the noise of a rollout (seed of
its state, rollout, optimizer step, control step); the windows of an update (seed, `_BATCHES`,
optimizer step of RL); noise and times of an update (key of seed + `_NOISE_OFFSET`, folded with
the optimizer step of RL).

Axis letters: m window, H action horizon, d padded action dimension.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from pi0_jax.data.demonstrations import Demonstrations
from pi0_jax.env.base import Engine, Task
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.init_states import InitStateSchedule
from pi0_jax.rl.iteration import (
    CollectedGroups,
    WeightedWindows,
    collect_groups,
    draw_batch,
    weighted_windows,
)
from pi0_jax.rl.metrics import iteration_metrics, no_update_reason
from pi0_jax.rl.setup import ROWS, LoopSetup, LoopState, LossOf, create_loop
from pi0_jax.rl.stop import best_iteration, beyond, drop, drop_line, has_dropped, outcome_of
from pi0_jax.rollout.collect import Ended, Report
from pi0_jax.run.seeds import rng
from pi0_jax.training.fit import ONE_DEVICE, final_params, fit
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import TrainState
from pi0_jax.types import Batch

# 1 are the windows of supervised training: RL must not draw the same ones.
_BATCHES = 2
# Added to the seed, as jax keys and NumPy generators share no streams.
_NOISE_OFFSET = 3


@dataclass(frozen=True)
class Rollouts:
    """The first half of an iteration.

    Attributes:
        collected: episodes and accepted groups.
        init_states: the plan of initial states after them.
        seconds: duration of the rollouts [s].
    """

    collected: CollectedGroups
    init_states: InitStateSchedule
    seconds: float


@dataclass(frozen=True)
class IterationReport:
    """What one iteration did.

    Attributes:
        iteration: its number, counted from 1.
        optimizer_step: number of optimizer steps after it, those before RL included.
        collected: episodes and accepted groups.
        metrics: scalars by name: `iteration_metrics`, "updates", the number of them, and the mean
            of what they measured.
        remarks: lines for a person: why there were no new windows, or why updates ended early.
    """

    iteration: int
    optimizer_step: int
    collected: CollectedGroups
    metrics: Mapping[str, Any]
    remarks: tuple[str, ...]


OnIteration = Callable[[LoopState, IterationReport], None]
"""Called after each iteration. It must not keep `LoopState.train_state`, which is donated next."""


def run_ript(
    policy: PolicyFolder,
    tasks: Sequence[Task],
    engine: Engine,
    config: RiptConfig,
    optimizer: OptimizerConfig,
    *,
    demonstrations: Demonstrations | None = None,
    loss: LossOf | None = None,
    seed: int = 0,
    rows: int = ROWS,
    hardware: Hardware = ONE_DEVICE,
    first_step: int = 0,
    on_iteration: OnIteration = lambda state, report: None,
    log: Callable[[str], None] = lambda line: None,
) -> PolicyFolder:
    """Improves a policy by its own rollouts (RIPT, arXiv 2505.17016); nothing is stored.

    It may end early (`config.max_drop`).

    Args:
        policy: the policy to start from.
        tasks: what the policy is trained on; they take turns.
        engine: runs the simulators.
        config: settings of RIPT.
        optimizer: settings of the optimizer.
        demonstrations: the source of `config.demo_fraction` of every batch.
        loss: network -> loss to minimise; None for the objective that `config` names.
        seed: seed of the run.
        rows: observations per call of the policy; results depend on it, as rounding does.
        hardware: the layout of an update.
        first_step: optimizer steps before RL; part of the key of the rollouts' noise.
        on_iteration: called after each iteration with the new state and what was done.
        log: takes one line of text at a time, such as `print`.

    Returns:
        The improved policy, with parameters on the host.

    Raises:
        InputError: settings that contradict each other, the policy or the hardware; the loss is
            no longer finite.
    """
    setup, state = create_loop(
        policy,
        tasks,
        engine,
        config,
        optimizer,
        demonstrations=demonstrations,
        loss=loss,
        seed=seed,
        rows=rows,
        hardware=hardware,
        first_step=first_step,
    )
    for line in opening_lines(config):
        log(line)
    while not is_finished(config, state):
        state, report = run_iteration(setup, state)
        for line in report.remarks:
            log(line)
        on_iteration(state, report)
    return improved_policy(setup, state)


def is_finished(config: RiptConfig, state: LoopState) -> bool:
    """Whether all iterations are done, or success has dropped by more than `config.max_drop`."""
    dropped = has_dropped(state.outcomes, config.max_drop)
    return dropped or state.iteration >= config.iterations


def run_iteration(setup: LoopSetup, state: LoopState) -> tuple[LoopState, IterationReport]:
    """One RIPT iteration: rollouts, then updates.

    Args:
        setup: from `create_loop`.
        state: current state of the loop. Its `train_state` is donated to the updates and cannot be
            used afterwards, so continue with the state that is returned.

    Raises:
        InputError: the loss is no longer finite.
    """
    return learn(setup, state, roll_out(setup, state))


def roll_out(
    setup: LoopSetup,
    state: LoopState,
    on_episodes: Report = lambda episodes: None,
    ended: Ended | None = None,
) -> Rollouts:
    """The first half of an iteration: groups of rollouts of the newest parameters.

    Args:
        setup: from `create_loop`.
        state: current state of the loop; it is not changed.
        on_episodes: called with all episodes that have ended, for a progress line.
        ended: rollouts of this iteration that were interrupted, which are not run again; those
            that end are put there.
    """
    start, config, training = time.monotonic(), setup.config, state.train_state
    # The arrays of the train state themselves, no copy: they are donated only after the rollouts.
    params = training.averaged() if config.rollout_params == "ema" else training.params
    collected, init_states = collect_groups(
        setup.policy.with_params(params),
        setup.engine,
        setup.tasks,
        state.init_states,
        config,
        setup.base.spec.execute_steps,
        # Part of the key of their noise: a state that comes again meets other noise.
        setup.first_step + int(training.step),
        on_episodes,
        ended,
    )
    return Rollouts(collected, init_states, time.monotonic() - start)


def learn(
    setup: LoopSetup, state: LoopState, rollouts: Rollouts
) -> tuple[LoopState, IterationReport]:
    """The second half of an iteration: weights, windows and updates.

    Args:
        setup: from `create_loop`.
        state: state of the loop before the rollouts; its `train_state` is donated.
        rollouts: from `roll_out`.

    Raises:
        InputError: the loss is no longer finite.
    """
    clock, iteration = [time.monotonic()], state.iteration + 1
    collected, config = rollouts.collected, setup.config
    state, is_best = judged(state, collected)
    if config.max_drop and is_best:
        # To the host, before the updates: they are donated the arrays.
        state = replace(state, best=gather(final_params(state.train_state)))
    # Episodes to windows: images uint8[m, c, h, w, 3], actions float32[m, H, d], weight [m].
    fresh = windows_of(setup, collected)
    # The updates draw from old windows too: actions [m, H, d] per iteration in the buffer.
    buffer = with_windows(config, state.buffer, iteration, fresh)
    clock.append(time.monotonic())
    # An empty buffer has nothing to draw from: parameters, optimizer and step stay as they are.
    train_state, measured, remarks = state.train_state, {"updates": 0}, []
    if dropped := has_dropped(state.outcomes, config.max_drop):
        remarks = [drop_line(state.outcomes)]
    elif buffer:
        train_state, measured, remarks = _train(setup, train_state, list(buffer.values()))
    clock.append(time.monotonic())
    seconds = np.array([rollouts.seconds, *np.diff(clock)])  # [rollouts, windows, updates]
    metrics = iteration_metrics(iteration, collected, fresh, seconds)
    metrics |= {"success_drop": drop(state.outcomes), **measured}
    # An iteration may train on old windows and still bring no new ones.
    reasons = [] if fresh.batch or dropped else [no_update_reason(collected, bool(buffer))]
    said = tuple(f"iteration {iteration}: {line}" for line in (*reasons, *remarks))
    step = setup.first_step + int(train_state.step)
    report = IterationReport(iteration, step, collected, metrics, said)
    after = LoopState(
        iteration, train_state, rollouts.init_states, buffer, state.outcomes, state.best
    )
    return after, report


def judged(state: LoopState, collected: CollectedGroups) -> tuple[LoopState, bool]:
    """The state with the outcome of its rollouts, and whether it is the best so far.

    Args:
        state: what acted in the rollouts.
        collected: the rollouts.
    """
    outcome = outcome_of(collected.episodes, int(state.train_state.step))
    after = replace(state, outcomes=(*state.outcomes, outcome))
    return after, best_iteration(after.outcomes) == state.iteration


def windows_of(setup: LoopSetup, collected: CollectedGroups) -> WeightedWindows:
    """The training windows of an iteration, for the policy of this loop."""
    spec = setup.base.spec
    return weighted_windows(
        collected.groups,
        setup.config,
        setup.base.transforms,
        spec.model.action_horizon,
        [task.name for task in setup.tasks],
    )


def with_windows(
    config: RiptConfig, buffer: Mapping[int, Batch], iteration: int, fresh: WeightedWindows
) -> dict[int, Batch]:
    """The buffer with an iteration's windows, without those that are too old.

    Args:
        config: how many iterations are kept.
        buffer: iteration -> windows, actions float32[m, H, d].
        iteration: that of `fresh`, counted from 1.
        fresh: its windows; without any it leaves no entry, and still ages the others.
    """
    # A new dictionary: the state of the iteration before keeps its own.
    parts = dict(buffer) if fresh.batch is None else {**buffer, iteration: fresh.batch}
    oldest = iteration - config.buffer_iterations + 1 if config.buffer_iterations else 1
    return {number: part for number, part in parts.items() if number >= oldest}


def improved_policy(setup: LoopSetup, state: LoopState) -> PolicyFolder:
    """The policy of a loop's state, with parameters on the host: averaged, adapters merged.

    Where success has dropped by more than `max_drop`, it is that of the best iteration's rollouts.
    """
    if has_dropped(state.outcomes, setup.config.max_drop):
        params = state.best
    else:
        # To the host, because the loop's own arrays are donated to its next update.
        params = gather(final_params(state.train_state))
    # Without a reference that the base may carry: the improved policy's own would be the base.
    return replace(setup.base, params=params, reference=None)


def opening_lines(config: RiptConfig) -> list[str]:
    """What to log before the first iteration: the settings, and a warning where one is due."""
    warning = config.warning
    return [str(config), f"warning: {warning}"] if warning else [str(config)]


def _train(
    setup: LoopSetup, state: TrainState, rollouts: Sequence[Batch]
) -> tuple[TrainState, dict[str, float], list[str]]:
    """The updates of one iteration, what they measured, and why they ended early, if they did.

    The measurements are their number, and the mean of what every `log_every`-th of them measured.
    """
    config, bounds, seen = setup.config, setup.config.chosen.bounds, []
    first = int(state.step)
    # What acted is what a loss may compare with; nothing has changed it since the rollouts.
    state = state.with_acting(config.rollout_params == "ema")
    # A batch is a function of the optimizer step alone, so a resumed run draws the same ones:
    # actions float32[batch_size, H, d], drawn from the parts of the buffer, oldest first.
    state = fit(
        state,
        setup.update,
        lambda step: draw_batch(rollouts, setup.demos, config, rng(setup.seed, _BATCHES, step)),
        first + config.updates_per_iteration,
        jax.random.key(setup.seed + _NOISE_OFFSET),
        log_every=config.log_every,
        log=lambda step, values: seen.append(values),
        enough=lambda values: bool(beyond(bounds, values)),
    )
    updates = int(state.step) - first
    of = f"the updates end after {updates} of {config.updates_per_iteration}"
    means = {name: float(np.mean([one[name] for one in seen])) for name in seen[-1]}
    return state, {"updates": updates, **means}, [f"{x}: {of}" for x in beyond(bounds, seen[-1])]
