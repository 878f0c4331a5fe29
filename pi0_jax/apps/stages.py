"""The stages of training between the checks and the report; each continues where it stopped."""

import dataclasses
import time
from functools import partial
from pathlib import Path

from pi0_jax.apps.own_start import kept_start
from pi0_jax.apps.sections import (
    OF_CHECKPOINT,
    DemonstrationsConfig,
    RiptSettings,
    without_rollouts,
)
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.apps.start import conditioned, fresh_spec, given_policy, point_at
from pi0_jax.apps.supervise import supervise
from pi0_jax.data.demonstrations import Demonstrations, Recorded
from pi0_jax.data.normalize import NormStats
from pi0_jax.env.base import Job
from pi0_jax.env.suite import Suite
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.atomic import remove
from pi0_jax.io.shared_episodes import of_all_hosts, of_first_host
from pi0_jax.policy.compare import same_policy
from pi0_jax.policy.folder import PolicyFolder, init_policy, load_policy, param_count, save_policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.episode_log import EpisodeLog, Key
from pi0_jax.run.folder import RunFolder, success_text
from pi0_jax.run.methods import BASE
from pi0_jax.run.session import Session
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.versions import versions


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

    It is stored in RUN/base. A given checkpoint that is used as it is is not written again:
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
    pointed = start.path and not sft.steps and settings.init.statistics == OF_CHECKPOINT
    if start.path and pointed:
        talk.first(partial(point_at, path.with_suffix(".json"), start.path))
    start = kept_start(session.run, start, _first_optimizers(settings))
    if pointed:
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
    sft, hardware = settings.sft, settings.hardware
    if ript.groups.groups_per_iteration:
        # A base policy that was never trained with branches lets each method choose their mode.
        base = conditioned(base, ript.branch_mode)
        return run_stored_ript(
            session,
            name,
            base,
            demos,
            ript,
            ript.optimizer,
            sft.steps,
            hardware,
            settings.eval,
            settings.checkpoints,
        )
    sft = without_rollouts(sft, ript)
    return supervise(session, name, base, demos, sft, hardware, settings.checkpoints.keep)


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
