"""The RIPT loop in a run folder: progress, metrics, episodes, checkpoints, and how it resumes.

The training is that of `rl/loop.py` to the bit: this file adds only what a run leaves on disk. What
lies in folders is told in `rl/loop_store.py`; metrics.jsonl gets one line per iteration, one more
per evaluation, and one with the seconds that training waited for a checkpoint.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pi0_jax.data.demonstrations import Demonstrations
from pi0_jax.hosts import talk
from pi0_jax.hosts.stopping import asked_anywhere
from pi0_jax.hosts.talk import HostEndedError
from pi0_jax.interruption import deferred
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl.best import evaluations
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.evaluation import evaluate_every
from pi0_jax.rl.iteration import CollectedGroups
from pi0_jax.rl.kept_rollouts import keep, kept
from pi0_jax.rl.loop import (
    IterationReport,
    OnIteration,
    Rollouts,
    improved_policy,
    is_finished,
    judged,
    learn,
    opening_lines,
    roll_out,
)
from pi0_jax.rl.loop_store import LoopCheckpointsConfig, LoopStore
from pi0_jax.rl.setup import LoopSetup, LoopState, create_loop
from pi0_jax.rollout.collect import Ended
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.folder import success_text
from pi0_jax.run.memory_used import memory_used
from pi0_jax.run.methods import BASE
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.finite import check_finite, told_where_to_go_back
from pi0_jax.training.fit import ONE_DEVICE
from pi0_jax.training.frozen import left_out
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.saver import Saver

EVERY_ITERATION = LoopCheckpointsConfig()

_SAVED = "checkpoint"
"""Phase of the lines that say how long training waited for a checkpoint."""


@dataclass(frozen=True)
class _Stored:
    """A loop, and where it is stored.

    Attributes:
        session: the running job.
        name: name of the method.
        setup: fixed parts of the loop.
        every: iterations from one checkpoint to the next.
        store: its states and episodes.
        evaluate: evaluates a state where it is its turn; None for never.
    """

    session: Session
    name: str
    setup: LoopSetup
    every: int
    store: LoopStore
    evaluate: OnIteration | None

    def is_due(self, state: LoopState) -> bool:
        """Whether the state after an iteration is stored in any case."""
        return not state.iteration % self.every or is_finished(self.setup.config, state)


def run_stored_ript(
    session: Session,
    name: str,
    base: PolicyFolder,
    demos: Demonstrations,
    config: RiptConfig,
    optimizer: OptimizerConfig,
    first_step: int,
    hardware: Hardware = ONE_DEVICE,
    evaluation: EvalConfig | None = None,
    checkpoints: LoopCheckpointsConfig = EVERY_ITERATION,
) -> PolicyFolder:
    """Improves a policy by its own rollouts; continues from the run folder's newest checkpoint.

    Args:
        session: the running job.
        name: name of the method, such as "ript" or "filtered_bc".
        base: the policy to start from.
        demos: the source of `config.demo_fraction` of every batch.
        config: settings of RIPT.
        optimizer: settings of the optimizer.
        first_step: optimizer steps before RL.
        hardware: the layout of an update.
        evaluation: evaluate every `evaluation.every` iterations; None, or 0 there, for never.
        checkpoints: how many are made and kept; the best ones stay besides (`rl/best.py`).

    Raises:
        InputError: as `create_loop`; the disk is too small; a checkpoint belongs to another model
            or base.
    """
    setup, fresh = create_loop(
        base,
        session.suite.tasks,
        session.pool,
        config,
        optimizer,
        demonstrations=demos,
        seed=session.seed,
        rows=session.rows,
        hardware=hardware,
        first_step=first_step,
    )

    def say(line: str) -> None:
        """One line for the person who watches."""
        session.run.message(f"{name}: {line}")

    for line in (*opening_lines(config), str(setup.budget)):
        say(line)
    folder = session.run.checkpoints(name)
    frozen = left_out(base.params, optimizer.all_rules, base.path, session.run.path)
    evaluate = None
    if evaluation and evaluation.every:
        evaluate = _evaluating(session, name, setup, evaluation)
    # Before the first rollout: a full disk after hours would lose the iteration. Besides the newest
    # there are the best by rollouts, the best by evaluation, and the one that is being written.
    count = checkpoints.keep + (3 if evaluate else 2)
    checkpoint.check_room(folder, fresh.train_state, count, frozen)
    saving = Saver(folder, checkpoints.keep, frozen, say, session.run.identity)
    before = session.run.checkpoints(BASE)
    with told_where_to_go_back(folder, before), saving as saver:
        store = LoopStore(session.run, name, setup, saver, say)
        # From here on the state is that of an unbroken run: randomness depends on positions alone.
        state = store.resumed(fresh)
        # Lines of an iteration that was logged, but lost before its checkpoint, are written again.
        # By iteration: one without an update has the step of the iteration before.
        for phase in ("rl", _SAVED):
            session.run.rewind(phase, name, state.iteration, key="iteration")
        stored = _Stored(session, name, setup, checkpoints.every, store, evaluate)
        return improved_policy(setup, _run(stored, state))


def _run(stored: _Stored, state: LoopState) -> LoopState:
    """All iterations that are left; interrupted, it stores what came after the last checkpoint."""
    try:
        _evaluate(stored, state)
        while not is_finished(stored.setup.config, state):
            state = _iterate(stored, state)
            _evaluate(stored, state)
    except KeyboardInterrupt:
        # Updates of the next iteration, which would have taken its arrays, are not interrupted. One
        # of several hosts cannot save alone.
        if talk.count() == 1:
            stored.store.save(state)
        raise
    return state


def _iterate(stored: _Stored, state: LoopState) -> LoopState:
    """One RIPT iteration, logged and stored; interrupted, it keeps the rollouts it has made."""
    number = state.iteration + 1
    unfinished = stored.store.unfinished(number)
    ended = kept(unfinished)
    try:
        rollouts = _roll_out(stored, state, ended)
        state = _learn(stored, state, rollouts)
    except (KeyboardInterrupt, HostEndedError):
        if not stored.store.has(number):
            keep(unfinished, ended)
        raise
    talk.first(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    return state


def _learn(stored: _Stored, state: LoopState, rollouts: Rollouts) -> LoopState:
    """The second half of an iteration, logged and stored."""
    store, done, stops = stored.store, None, False
    if stored.setup.config.max_drop and judged(state, rollouts.collected)[1]:
        # The best so far: it may be what the run ends with.
        store.save(state)
    try:
        with _finishing(stored, state) as asked:
            after, report = learn(stored.setup, state, rollouts)
            # Before anything of this iteration is written.
            check_finite(after.train_state)
            _tell(stored, report, rollouts.seconds)
            if stored.is_due(after):
                _save(stored, after, report)
            else:
                store.save_episodes(after.iteration, report.collected.episodes)
            done, stops = after, asked_anywhere(asked)
    except KeyboardInterrupt:
        # One of several hosts that was asked after they had agreed cannot save alone.
        if done is not None and (stops or talk.count() == 1):
            store.save(done)
        raise
    return done


def _finishing(stored: _Stored, state: LoopState) -> AbstractContextManager[Callable[[], bool]]:
    """Defers a stop to the end of an iteration whose updates take the only copy of a state.

    Of several hosts none may leave in the middle of updates.
    """
    if stored.store.has(state.iteration) and talk.count() == 1:
        return contextlib.nullcontext(lambda: False)
    return deferred("the end of this iteration's updates and one save")


def _tell(stored: _Stored, report: IterationReport, seconds: float) -> None:
    """Logs an iteration, of which the rollouts took so many seconds."""
    for line in report.remarks:
        stored.session.run.message(f"{stored.name}: {line}")
    # Without rollouts, where every state is solved, there is no speed.
    speed = {}
    if episodes := report.collected.episodes:
        label = f"{stored.name} {report.iteration}: rollouts"
        speed = stored.session.log_speed(label, episodes, seconds)
    values = {**report.metrics, **speed, **memory_used()}
    stored.session.run.log(report.optimizer_step, "rl", stored.name, **values)


def _save(stored: _Stored, state: LoopState, report: IterationReport) -> None:
    start = time.monotonic()
    stored.store.save(state, report.collected.episodes)
    took = {"iteration": report.iteration, "seconds_checkpoint": time.monotonic() - start}
    # A phase of its own: an iteration is one line, and is logged before it is stored.
    stored.session.run.log(report.optimizer_step, _SAVED, stored.name, **took)


def _roll_out(stored: _Stored, state: LoopState, ended: Ended) -> Rollouts:
    """The rollouts of an iteration, with a progress line."""
    config = stored.setup.config
    label = f"{stored.name} {state.iteration + 1}/{config.iterations}: rollouts"
    # At most: an iteration ends as soon as enough groups are accepted.
    total = config.groups.max_groups * config.groups.group_size
    with stored.session.run.progress(label, total) as progress:
        return roll_out(
            stored.setup,
            state,
            lambda episodes: progress.update(len(episodes), success_text(episodes)),
            ended,
        )


def _evaluating(session: Session, name: str, setup: LoopSetup, config: EvalConfig) -> OnIteration:
    """The callback that evaluates: a line of metrics.jsonl of its own each time."""

    def log(report: IterationReport, values: dict[str, float]) -> None:
        """Writes the line, and a message with its numbers."""
        values = {"iteration": report.iteration, **values}
        session.run.log(report.optimizer_step, "rl", name, **values)
        session.run.message(
            f"{name}: iteration {report.iteration}: evaluation, {values['eval_success']:.1%} of "
            f"{values['eval_episodes']} episodes succeeded"
        )

    return evaluate_every(config, setup.base, setup.tasks, setup.engine, setup.policy.rows, log)


def _evaluate(stored: _Stored, state: LoopState) -> None:
    """Evaluates a state if that is due, and not done: a stop may have come in between."""
    if stored.evaluate is None or not state.iteration:
        return
    if talk.first(lambda: _is_evaluated(stored, state.iteration)):
        return
    step = stored.setup.first_step + int(state.train_state.step)
    stored.evaluate(state, IterationReport(state.iteration, step, CollectedGroups(), {}, ()))


def _is_evaluated(stored: _Stored, iteration: int) -> bool:
    lines = evaluations(read_metrics(stored.session.run.metrics.path), stored.name)
    return any(line["iteration"] == iteration for line in lines)
