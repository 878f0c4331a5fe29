"""The stages of training between the checks and the report; each continues where it stopped."""

import dataclasses
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Protocol

import jax

from pi0_jax.apps.own_start import kept_start
from pi0_jax.apps.sections import (
    OF_CHECKPOINT,
    DemonstrationsConfig,
    RiptSettings,
    SupervisedSettings,
)
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.apps.start import conditioned, fresh_spec, given_policy, point_at
from pi0_jax.data.ahead import Ahead
from pi0_jax.data.cameras import views_of
from pi0_jax.data.demonstrations import Demonstrations, Recorded
from pi0_jax.data.normalize import NormStats
from pi0_jax.env.base import Job
from pi0_jax.env.suite import Suite
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.hosts.stopping import asked_anywhere
from pi0_jax.interruption import deferred
from pi0_jax.io.atomic import remove
from pi0_jax.io.shared_episodes import of_all_hosts, of_first_host
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.compare import same_policy
from pi0_jax.policy.folder import (
    PolicyFolder,
    PolicySpec,
    init_policy,
    load_policy,
    param_count,
    save_policy,
)
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.episode_log import EpisodeLog, Key
from pi0_jax.run.batch_shapes import batch_shapes
from pi0_jax.run.folder import BASE, RunFolder, success_text
from pi0_jax.run.session import Session, Work, method_number
from pi0_jax.training import checkpoint
from pi0_jax.training.finite import check_finite, told_where_to_go_back
from pi0_jax.training.fit import Update, final_params, fit
from pi0_jax.training.frozen import left_out
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.recovery import recover
from pi0_jax.training.saver import Saver
from pi0_jax.training.setup import set_up_training
from pi0_jax.training.sharding import gather, make_mesh, rows_here
from pi0_jax.training.step import SampledLoss, TrainState
from pi0_jax.training.supervised import augmented, flow_matching_loss
from pi0_jax.types import Batch
from pi0_jax.versions import versions

# Whoever stops supervised training waits for this, and loses nothing.
_UNTIL = "the end of one update and one save"


def demonstrations(session: Session, config: DemonstrationsConfig) -> Recorded:
    """Scripted episodes, failures included; made once and stored."""
    stored, clock = EpisodeLog(session.run.episodes("demonstrations")), time.monotonic()
    first = session.first_state(config.first_seed)
    jobs = session.suite.demonstrations(range(first, first + config.episodes))
    if stored.unfinished:
        found = stored.begin()
        missing = talk.share([job for job in jobs if _demonstrated(job) not in found])
        with session.run.progress("demonstrations", len(jobs), len(found)) as progress:

            def note(ended: list[Episode]) -> None:
                """Stores the episode that has just ended: an interruption loses none."""
                stored.add_new(ended, found)
                progress.update(len(found), success_text(list(found.values())))

            made = of_all_hosts(session.pool.map(missing, note))
            note(made)
        stored.finish([found[_demonstrated(job)] for job in jobs])
        session.log_speed("demonstrations", made, time.monotonic() - clock)
    # From the file also when just made, so that a resumed run has the very same values.
    return Recorded(of_first_host(stored.load))


def _demonstrated(job: Job) -> Key:
    """The key of the episode that a job of `Suite.demonstrations` gives."""
    return job.task.name, job.args[0]


def base_policy(session: Session, settings: TrainSettings, demos: Demonstrations) -> PolicyFolder:
    """The policy before RL: a given checkpoint or a fresh one, after supervised training.

    It is stored in RUN/base. A given checkpoint that is not trained is not written again:
    RUN/base.json names it, and RUN/start has it where RL leaves some of it frozen.

    Raises:
        InputError: a resumed run started from another checkpoint than the one that is given.
    """
    path, sft = session.run.path / BASE, settings.sft
    if talk.first(path.exists):
        return _stored_base(path, session, settings, demos)
    # The only place where the weights of a given checkpoint are read.
    start = initial_policy(settings, session.suite, demos)
    session.run.message(f"policy: {param_count(start.params):,} parameters")
    if start.path and not sft.steps:
        talk.first(partial(point_at, path.with_suffix(".json"), start.path))
    start = kept_start(session.run, start, _first_optimizers(settings))
    if start.path and not sft.steps:
        return start
    if sft.steps:
        keep = settings.checkpoints.keep
        start = supervise(session, BASE, start, demos, sft, settings.hardware, keep)
    talk.first(partial(_write_policy, path, start))
    # Host 0 alone has the folder.
    return dataclasses.replace(start, path=path) if talk.leads() else start


def _stored_base(
    path: Path, session: Session, settings: TrainSettings, demos: Demonstrations
) -> PolicyFolder:
    """The base policy that an earlier part of the run has stored."""
    # Elsewhere the same without its parameters.
    base = load_policy(path) if talk.leads() else initial_policy(settings, session.suite, demos)
    return dataclasses.replace(base, params=talk.first_tree(base.params))


def _write_policy(path: Path, policy: PolicyFolder) -> None:
    save_policy(path, policy, {"made_by": "train.py", "versions": versions()})


def _first_optimizers(settings: TrainSettings) -> list[OptimizerConfig]:
    """Of the trainings that start from what is given: the first one, or all methods of RL."""
    if settings.sft.steps:
        return [settings.sft.optimizer]
    methods = (*settings.baselines.values(), settings.rl)
    return [method.optimizer for method in methods if settings.rl.iterations]


def initial_policy(settings: TrainSettings, suite: Suite, demos: Demonstrations) -> PolicyFolder:
    """The checkpoint that the config names, or random parameters; with the right statistics."""
    floor = settings.demonstrations.std_floor
    if settings.init.checkpoint:
        start = given_policy(settings, suite)
        if settings.init.statistics == OF_CHECKPOINT:
            return start
        return dataclasses.replace(start, stats=stats_of(demos, start.spec, floor))
    spec = fresh_spec(settings, suite)
    return init_policy(spec, stats_of(demos, spec, floor), settings.seed)


def stats_of(demos: Demonstrations, spec: PolicySpec, std_floor: float) -> NormStats:
    """Statistics of the demonstrations for a policy of this kind."""
    return demos.stats(spec.action_space, spec.model.action_horizon, std_floor)


def train_method(
    session: Session,
    settings: TrainSettings,
    name: str,
    ript: RiptSettings,
    base: PolicyFolder,
    demos: Demonstrations,
) -> PolicyFolder:
    """Trains the base policy by one method: RIPT's loop, or supervised if it has no rollouts."""
    sft, hardware, optimizer = settings.sft, settings.hardware, ript.optimizer
    if ript.groups.groups_per_iteration:
        # A base policy that was never trained with branches lets each method choose their mode.
        base = conditioned(base, ript.branch_mode)
        return run_stored_ript(
            session,
            name,
            base,
            demos,
            ript,
            optimizer,
            sft.steps,
            hardware,
            settings.eval,
            settings.checkpoints,
        )
    # Without rollouts the steps go to the demonstrations, at the rate and schedule of RL.
    optimizer = dataclasses.replace(optimizer, rules=sft.optimizer.rules)
    steps = ript.iterations * ript.updates_per_iteration
    sft = dataclasses.replace(sft, steps=steps, optimizer=optimizer)
    return supervise(session, name, base, demos, sft, hardware, settings.checkpoints.keep)


class Judge(Protocol):
    """Looks at a policy while it is trained, on what it does not learn from."""

    def begin(self, state: TrainState) -> None:
        """Before the first update, or when a run goes on from a checkpoint."""
        ...

    def judge(self, state: TrainState) -> Collection[int]:
        """Before a checkpoint is stored; returns as `best`."""
        ...

    def best(self) -> Collection[int]:
        """The optimizer step of the best policy so far; nothing before the first was judged."""
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
    loss = _seen(loss or partial(_flow_matching, config), config, start)
    state, update, budget = set_up_training(
        start.params, model, loss, config.optimizer, config.steps, batch, hardware
    )
    run.message(f"{method}: {budget}")
    frozen = left_out(start.params, config.optimizer.all_rules, start.path, run.path)
    # Before the first update: a full disk must not show after hours.
    checkpoint.check_room(folder, state, keep + 1, frozen)

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
            judge.begin(state)
        key = session.noise_key(method)
        state = _updated(run, method, config, state, update, batch_of, key, saver, judge)
        params = gather(final_params(_best(state, saver, judge)))
    return dataclasses.replace(start, params=params)


def _updated(
    run: RunFolder,
    method: str,
    config: SupervisedSettings,
    state: TrainState,
    update: Update,
    batch_of: Callable[[int], Batch],
    key: jax.Array,
    saver: Saver,
    judge: Judge | None,
) -> TrainState:
    """The state after all updates, which are logged, judged and saved."""
    clock = [time.monotonic()]
    with (
        # The device works on one batch while the host reads the next ones.
        Ahead(batch_of, config.steps) as ahead,
        run.progress(f"{method}: supervised", config.steps, done=int(state.step)) as progress,
    ):

        def log(step: int, metrics: dict[str, float]) -> None:
            clock.append(time.monotonic())
            # Since the line before: compilation, batches and checkpoints included.
            run.log(step, "sft", method, **metrics, seconds_train=clock[-1] - clock[-2])
            progress.update(step, f"loss {metrics['loss']:.4f}")

        # In stretches of `save_every`: `fit` donates the state, so it is saved between two calls.
        while (step := int(state.step)) < config.steps:
            # Multiples, so that a run that was interrupted saves where an unbroken one does.
            until = min(step - step % config.save_every + config.save_every, config.steps)
            with deferred(_UNTIL) as asked:
                # All hosts stop before the same update.
                stop = partial(asked_anywhere, asked)
                state = fit(state, update, ahead, until, key, config.log_every, log, stop=stop)
                if int(state.step) > step:
                    check_finite(state)
                    best = judge.judge(state) if judge else ()
                    saver.save(int(state.step), state, {"phase": "sft"}, best)
    return state


def _best(state: TrainState, saver: Saver, judge: Judge | None) -> TrainState:
    """The state at the checkpoint that was judged best; without a judge the last one."""
    if judge and (best := judge.best()) and int(state.step) not in best:
        return saver.restore(state, min(best))
    return state


def _flow_matching(config: SupervisedSettings, model: Pi0) -> SampledLoss:
    return flow_matching_loss(model, config.time_samples)


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


def export(run: RunFolder, final: PolicyFolder) -> None:
    """Writes the final policy, unless a run that had ended is only shown again.

    Evaluations know a policy by the digest of its files, which differs each time it is written.
    """
    path = run.path / "policy"
    if path.exists():
        if _is_stored(path, final):
            return
        # By another name first: nobody may load a policy of which a part is gone.
        remove(path)
    _write_policy(path, final)


def _is_stored(path: Path, policy: PolicyFolder) -> bool:
    try:
        return same_policy(load_policy(path), policy)
    except InputError:
        return False  # damaged, or of other settings: it is written anew
