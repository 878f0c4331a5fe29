"""The RIPT loop in a run folder: progress, metrics, episodes, checkpoints, and how it resumes.

The training is that of `rl/loop.py` to the bit: this file adds only what a run leaves on disk.

    episodes/<method>/<iteration>.parts/  rollouts of an iteration that was interrupted
    episodes/<method>/<iteration>.npz   what the rollouts did; images uint8[look, c, h, w, 3] while
                                        an iteration to come will train on them
    checkpoints/<step>/                 train state, iteration, plan of initial states, outcomes:
                                        the newest, and the best (`rl/best.py`)
    metrics.jsonl                       one line per iteration, one more per evaluation, and one
                                        with the seconds of the checkpoint

Axis letters: m window, c camera, h w image, H action horizon, d padded action dimension.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pi0_jax.data.demonstrations import Demonstrations
from pi0_jax.episode import without_images
from pi0_jax.interruption import deferred
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl.best import best_steps
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.evaluation import evaluate_every
from pi0_jax.rl.init_states import InitStateSchedule, informative_groups
from pi0_jax.rl.iteration import CollectedGroups
from pi0_jax.rl.kept_rollouts import keep, kept
from pi0_jax.rl.loop import (
    IterationReport,
    OnIteration,
    Rollouts,
    improved_policy,
    is_finished,
    learn,
    opening_lines,
    roll_out,
    windows_of,
    with_windows,
)
from pi0_jax.rl.setup import LoopSetup, LoopState, create_loop
from pi0_jax.rl.stop import Outcome, best_iteration
from pi0_jax.rollout.collect import Ended, groups_of
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.folder import success_text
from pi0_jax.run.memory_used import memory_used
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.finite import check_finite, told_where_to_go_back
from pi0_jax.training.fit import ONE_DEVICE, final_params
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.recovery import recover
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import Params
from pi0_jax.types import Batch

_SAVED = "checkpoint"
"""Phase of the lines that say how long a checkpoint took."""


@dataclass(frozen=True)
class _Stored:
    """A loop, and where it is stored.

    Attributes:
        session: the running job.
        name: name of the method.
        setup: fixed parts of the loop.
        keep: number of newest checkpoints to keep.
    """

    session: Session
    name: str
    setup: LoopSetup
    keep: int

    @property
    def checkpoints(self) -> Path:
        """Folder of the method's checkpoints."""
        return self.session.run.checkpoints(self.name)

    def episodes(self, iteration: int) -> Path:
        """File of an iteration's episodes."""
        return self.session.run.episodes(f"{self.name}/{iteration:03d}")

    def unfinished(self, iteration: int) -> Path:
        """Folder of the rollouts of an iteration that was interrupted."""
        return self.episodes(iteration).with_suffix(".parts")

    def message(self, text: str) -> None:
        """One line for the person who watches."""
        self.session.run.message(f"{self.name}: {text}")


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
    keep: int = checkpoint.KEEP,
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
        keep: number of newest checkpoints to keep; the best ones stay besides (`rl/best.py`).

    Raises:
        InputError: as `create_loop`; the disk is too small; a checkpoint belongs to another model.
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
    stored = _Stored(session, name, setup, keep)
    for line in (*opening_lines(config), str(setup.budget)):
        stored.message(line)
    evaluate = _evaluating(stored, evaluation) if evaluation and evaluation.every else None
    # Before the first rollout: a full disk after hours would lose the iteration. Besides the newest
    # there are the best by rollouts, the best by evaluation, and the one that is being written.
    count = keep + (3 if evaluate else 2)
    checkpoint.check_room(stored.checkpoints, fresh.train_state, count)
    # From here on the state is that of an unbroken run: all randomness depends on positions alone.
    state = _resumed(stored, fresh)
    # Lines of an iteration that was logged, but lost before its checkpoint, are written again.
    # By iteration: one without an update has the step of the iteration before.
    for phase in ("rl", _SAVED):
        session.run.rewind(phase, name, state.iteration, key="iteration")
    while not is_finished(config, state):
        with told_where_to_go_back(stored.checkpoints):
            state = _iterate(stored, state, evaluate)
    return improved_policy(setup, state)


def _iterate(stored: _Stored, state: LoopState, evaluate: OnIteration | None) -> LoopState:
    """One RIPT iteration, logged and stored; interrupted, it keeps the rollouts it has made."""
    unfinished = stored.unfinished(state.iteration + 1)
    ended = kept(unfinished)
    try:
        state = _run_iteration(stored, state, evaluate, ended)
    except KeyboardInterrupt:
        keep(unfinished, ended)
        raise
    shutil.rmtree(unfinished, ignore_errors=True)
    return state


def _run_iteration(
    stored: _Stored, state: LoopState, evaluate: OnIteration | None, ended: Ended
) -> LoopState:
    """One RIPT iteration, where some rollouts may have ended already."""
    rollouts = _roll_out(stored, state, ended)
    state, report = learn(stored.setup, state, rollouts)
    # Before anything of this iteration is written.
    check_finite(state.train_state)
    for line in report.remarks:
        stored.message(line)
    # Without rollouts, where every state is solved, there is no speed.
    speed = {}
    if episodes := report.collected.episodes:
        label = f"{stored.name} {report.iteration}: rollouts"
        speed = stored.session.log_speed(label, episodes, rollouts.seconds)
    _log(stored, report, {**report.metrics, **speed, **memory_used()})
    # Before the checkpoint: an evaluation that is interrupted is then run again on --resume.
    if evaluate:
        evaluate(state, report)
    start = time.monotonic()
    _save_iteration(stored, state, report)
    took = {"iteration": report.iteration, "seconds_checkpoint": time.monotonic() - start}
    # A phase of its own: an iteration is one line, and is logged before it is stored.
    stored.session.run.log(report.optimizer_step, _SAVED, stored.name, **took)
    return state


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


def _evaluating(stored: _Stored, config: EvalConfig) -> OnIteration:
    """The callback that evaluates: a line of metrics.jsonl of its own each time."""

    def log(report: IterationReport, values: dict[str, float]) -> None:
        """Writes the line, and a message with its numbers."""
        _log(stored, report, {"iteration": report.iteration, **values})
        stored.message(
            f"iteration {report.iteration}: evaluation, {values['eval_success']:.1%} of "
            f"{values['eval_episodes']} episodes succeeded"
        )

    setup = stored.setup
    return evaluate_every(config, setup.base, setup.tasks, setup.engine, setup.policy.rows, log)


def _log(stored: _Stored, report: IterationReport, values: dict[str, float]) -> None:
    stored.session.run.log(report.optimizer_step, "rl", stored.name, **values)


def _save_iteration(stored: _Stored, state: LoopState, report: IterationReport) -> None:
    """Stores the episodes, then the checkpoint.

    In this order, because --resume cuts the buffer's windows from the episodes of every iteration
    that the checkpoint counts. An interruption in between leaves a file that is written again.
    """
    episodes = report.collected.episodes
    if stored.setup.config.buffer_iterations == 1:
        # No later iteration trains on them, and images of LIBERO take gigabytes per iteration.
        episodes = tuple(without_images(episode) for episode in episodes)
    save_episodes(stored.episodes(state.iteration), episodes)
    schedule = asdict(state.init_states)
    outcomes = [asdict(outcome) for outcome in state.outcomes]
    host = {"phase": "rl", "iteration": state.iteration, "init_states": schedule}
    host |= {"outcomes": outcomes}
    lines = read_metrics(stored.session.run.metrics.path)
    best = best_steps(state.outcomes, stored.setup.first_step, lines, stored.name)
    step, keep = report.optimizer_step, stored.keep
    # Whoever stops the run waits for a save that is under way.
    with deferred("the end of the save that is under way"):
        checkpoint.save(stored.checkpoints, step, state.train_state, host, keep, best)


def _resumed(stored: _Stored, fresh: LoopState) -> LoopState:
    """The state at the newest checkpoint, its buffer included; `fresh` where there is none."""
    recover(stored.checkpoints, "rl", stored.message)
    # `ript` continues from `base` and shares its folder, where a checkpoint may be of phase "sft".
    host = checkpoint.latest(stored.checkpoints)
    if host is None or host["phase"] != "rl":
        return fresh
    iteration, schedule = host["iteration"], InitStateSchedule(**host["init_states"])
    outcomes = tuple(Outcome(**outcome) for outcome in host["outcomes"])
    state = replace(fresh, iteration=iteration, init_states=schedule, outcomes=outcomes)
    if stored.setup.config.max_drop:
        # Before the newest state, so that the device never holds both.
        state = replace(state, best=_stored_best(stored, fresh, outcomes))
    # Leaf by leaf to where those of `fresh` lie: on a mesh, in parts.
    train_state = checkpoint.restore(stored.checkpoints, fresh.train_state)
    buffer = _stored_buffer(stored, iteration)
    return replace(state, train_state=train_state, buffer=buffer)


def _stored_best(stored: _Stored, fresh: LoopState, outcomes: Sequence[Outcome]) -> Params:
    """The parameters of the best iteration's rollouts, on the host."""
    best, like = outcomes[best_iteration(outcomes)].optimizer_step, fresh.train_state
    # Before the first update it was the policy that the loop started from.
    step = stored.setup.first_step + best
    found = checkpoint.restore(stored.checkpoints, like, step) if best else like
    return gather(final_params(found))


def _stored_buffer(stored: _Stored, iteration: int) -> dict[int, Batch]:
    """The buffer after an iteration, actions float32[m, H, d], cut again from stored episodes.

    Windows are a function of episodes, so they need not be stored: images are stored once.
    """
    config, buffer = stored.setup.config, {}
    kept = config.buffer_iterations
    # The oldest iteration that the next one will still train on.
    first = max(1, iteration - kept + 2) if kept else 1
    for number in range(first, iteration + 1):
        # Episodes lie as a table [group, rollout]; errors are left out of their groups.
        groups = groups_of(load_episodes(stored.episodes(number)), config.groups.group_size)
        accepted = informative_groups(groups, config.groups.dynamic_sampling)
        fresh = windows_of(stored.setup, CollectedGroups(groups=tuple(accepted)))
        buffer = with_windows(config, buffer, number, fresh)
    return buffer
