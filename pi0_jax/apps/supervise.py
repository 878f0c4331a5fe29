"""Supervised training on demonstrations, with checkpoints: it continues where it stopped."""

import dataclasses
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax

from pi0_jax.apps.sections import SupervisedSettings
from pi0_jax.data.ahead import Ahead
from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.cameras import views_of
from pi0_jax.data.demonstrations import Demonstrations
from pi0_jax.hosts import talk
from pi0_jax.hosts.stopping import asked_anywhere
from pi0_jax.interruption import deferred
from pi0_jax.io.metrics_writer import Progress
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.run.batch_shapes import batch_shapes
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session, Work, method_number
from pi0_jax.training import checkpoint
from pi0_jax.training.finite import check_finite, told_where_to_go_back
from pi0_jax.training.fit import Update, final_params, fit
from pi0_jax.training.frozen import left_out
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.recovery import recover
from pi0_jax.training.saver import Saver
from pi0_jax.training.setup import set_up_training
from pi0_jax.training.sharding import gather, make_mesh, rows_here
from pi0_jax.training.step import SampledLoss, TrainState
from pi0_jax.training.supervised import augmented, flow_matching_loss
from pi0_jax.types import Batch

# Whoever stops supervised training waits for this, and loses nothing.
_UNTIL = "the end of one update and one save"


Log = Callable[[int, dict[str, float]], None]
"""(step, metrics) -> nothing."""


class Judge(Protocol):
    """Looks at a policy while it is trained, on what it does not learn from."""

    def begin(self, state: TrainState, judged: bool) -> None:
        """Before the first update, or when a run goes on from a checkpoint.

        Args:
            state: what training goes on from.
            judged: an unbroken run judges the policy of this step.
        """
        ...

    def judge(self, state: TrainState) -> None:
        """Before a checkpoint is stored, but for one that an interruption makes."""
        ...

    def best(self, stored: Collection[int]) -> Collection[int]:
        """The optimizer step of the best policy of these; nothing where none was judged.

        Where training goes back to an earlier checkpoint, the best before that may be gone.
        """
        ...


def supervise(
    session: Session | Work,
    method: str,
    start: PolicyFolder,
    demos: Demonstrations,
    config: SupervisedSettings,
    hardware: Hardware,
    keep: int = checkpoint.KEEP,
    loss: Callable[[Pi0], SampledLoss] | None = None,
    judge: Judge | None = None,
) -> PolicyFolder:
    """Supervised training on the demonstrations' windows; continues from the newest checkpoint.

    Args:
        session: the run.
        method: names the checkpoints, and decides which windows and noise are drawn.
        start: the policy to train.
        demos: what it imitates.
        config: how long and on what batches.
        hardware: layout of an update.
        keep: how many checkpoints stay.
        loss: network -> loss; None for flow matching.
        judge: looks at the policy at every checkpoint; the result is then the best, which stays.
    """
    run, folder, model = session.run, session.run.checkpoints(method), start.spec.model
    batch = batch_shapes(start.spec, config.batch_size)
    loss = _seen(loss or partial(imitation, start, config.time_samples), config, start)
    state, update, budget = set_up_training(
        start.params, model, loss, config.optimizer, config.steps, batch, hardware
    )
    run.message(f"{method}: {budget}")
    frozen = left_out(start.params, config.optimizer.all_rules, start.path, run.path)
    # Before the first update: a full disk must not show after hours.
    # The newest, the one that is being written, and where a judge keeps it the best.
    checkpoint.check_room(folder, state, keep + 1 + (judge is not None), frozen)

    def say(line: str) -> None:
        """One line for the person who watches."""
        run.message(f"{method}: {line}")

    recover(folder, "sft", say)
    batch_of = _batches(session, method, start, demos, config.batch_size, hardware)
    saving = Saver(folder, keep, frozen, say, run.identity)
    with told_where_to_go_back(folder), saving as saver:
        if checkpoint.latest(folder):
            state = saver.restore(state)
        # Lines of steps after the checkpoint are written again by the updates that are repeated.
        run.rewind("sft", method, int(state.step))
        if judge:
            step = int(state.step)
            judge.begin(state, step % config.save_every == 0 or step == config.steps)
        key = session.noise_key(method)
        training = _Training(run, method, config, update, batch_of, key, saver, judge)
        state = training.finished(state)
        params = gather(final_params(_best(state, saver, judge)))
    return dataclasses.replace(start, params=params)


@dataclass(frozen=True)
class _Training:
    """What all updates of one training share; fields as in `supervise`."""

    run: RunFolder
    method: str
    config: SupervisedSettings
    update: Update
    batch_of: Callable[[int], Batch]
    key: jax.Array
    saver: Saver
    judge: Judge | None

    def finished(self, state: TrainState) -> TrainState:
        """The state after all updates, which are logged, judged and saved."""
        total, every = self.config.steps, self.config.save_every
        label = f"{self.method}: supervised"
        with (
            # The device works on one batch while the host reads the next ones.
            Ahead(self.batch_of, total) as ahead,
            self.run.progress(label, total, done=int(state.step)) as progress,
        ):
            log = self._log(progress)
            # In stretches: `fit` donates the state, so it is saved between two calls.
            while (step := int(state.step)) < total:
                # Multiples, so that a run that was interrupted saves where an unbroken one does.
                until = min(step - step % every + every, total)
                state = self._stretch(state, ahead, until, log)
        return state

    def _stretch(self, state: TrainState, ahead: Ahead, until: int, log: Log) -> TrainState:
        """The state after the updates before `until`, which was saved."""
        step = int(state.step)
        with deferred(_UNTIL) as asked:
            # All hosts stop before the same update.
            stop, every = partial(asked_anywhere, asked), self.config.log_every
            state = fit(state, self.update, ahead, until, self.key, every, log, stop=stop)
            if int(state.step) > step:
                check_finite(state)
                best = self._judged(state, int(state.step) == until)
                self.saver.save(int(state.step), state, {"phase": "sft"}, best)
        return state

    def _judged(self, state: TrainState, whole: bool) -> Collection[int]:
        """The best step so far, this state's among them where the stretch is whole."""
        if self.judge is None:
            return ()
        # What an interruption leaves is not judged: an unbroken run would not choose it either.
        if whole:
            self.judge.judge(state)
        return self.judge.best({*_stored(self.saver), int(state.step)})

    def _log(self, progress: Progress) -> Log:
        """Writes the metrics of a step, and shows how far the training is."""
        clock = [time.monotonic()]

        def log(step: int, metrics: dict[str, float]) -> None:
            clock.append(time.monotonic())
            # Since the line before: compilation, batches and checkpoints included.
            seconds = clock[-1] - clock[-2]
            self.run.log(step, "sft", self.method, **metrics, seconds_train=seconds)
            progress.update(step, f"loss {metrics['loss']:.4f}")

        return log


def _best(state: TrainState, saver: Saver, judge: Judge | None) -> TrainState:
    """The state at the checkpoint that was judged best; without a judge the last one."""
    best = judge.best(_stored(saver)) if judge else ()
    return saver.restore(state, min(best)) if best and int(state.step) not in best else state


def _stored(saver: Saver) -> Collection[int]:
    """Optimizer steps of the checkpoints on the disk, on every host."""
    saver.wait()
    return talk.first(lambda: checkpoint.steps(saver.folder))


def imitation(start: PolicyFolder, time_samples: int, model: Pi0) -> SampledLoss:
    """Flow matching of the velocity that this policy acts with, at guidance 1."""
    by_embedding = not has_two_prompts(start.spec.branch_mode)
    return flow_matching_loss(model, time_samples, by_embedding and start.has_condition)


def _seen(
    loss: Callable[[Pi0], SampledLoss], config: SupervisedSettings, start: PolicyFolder
) -> Callable[[Pi0], SampledLoss]:
    """The loss, with augmented images if the config says so."""

    def of(model: Pi0) -> SampledLoss:
        """The loss of a network."""
        plain = loss(model)
        return augmented(plain, views_of(start.spec.robot)) if config.augment else plain

    return of


def _batches(
    session: Session | Work,
    method: str,
    start: PolicyFolder,
    demos: Demonstrations,
    size: int,
    hardware: Hardware,
) -> Callable[[int], Batch]:
    windows = demos.windows(start.transforms, start.spec.model.action_horizon)
    # Several hosts draw the same batch, and each decodes the pictures of its own rows.
    seen = rows_here(make_mesh(hardware), size) if hardware.devices > 1 else None

    def batch_of(step: int) -> Batch:
        """Windows, drawn as a function of the step alone: a resumed run draws the same."""
        # 1 is the stream of supervised windows; those of RL are another (`rl/loop.py`).
        rng = session.rng(1, step, method_number(method))
        return windows.take(windows.draw(rng, size), seen)

    return batch_of
