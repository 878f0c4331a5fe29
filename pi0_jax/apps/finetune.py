"""Fine-tune a policy on LeRobot folders of any robot, without a simulator.

It imitates the episodes that are not held out; at every checkpoint the others tell loss and action
error (`judge.py`). RUN/policy is the best policy, RUN/report.html shows what it predicts.
"""

from functools import partial
from pathlib import Path

from pi0_jax.apps import cli
from pi0_jax.apps.finetune_settings import FineTuneSettings, fine_tune_settings
from pi0_jax.apps.finetune_start import (
    FineTuneStart,
    find_start,
    has_outcomes,
    start_policy,
)
from pi0_jax.apps.judge import HeldOutJudge
from pi0_jax.apps.own_start import kept_start, with_own_start
from pi0_jax.apps.predictions import write_predictions
from pi0_jax.apps.sections import OF_CHECKPOINT, OF_DEMONSTRATIONS
from pi0_jax.apps.stages import export
from pi0_jax.apps.start import fingerprint
from pi0_jax.apps.supervise import imitation, supervise
from pi0_jax.data.held_out import judged_steps
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.hosts import talk
from pi0_jax.model.pi0 import Pi0
from pi0_jax.plain_values import defaults
from pi0_jax.policy.folder import PolicyFolder, init_policy, param_count
from pi0_jax.policy.open_loop import scale_of
from pi0_jax.policy.policy import Policy
from pi0_jax.report.page import write_report
from pi0_jax.run.folder import RESULTS, RunFolder
from pi0_jax.run.followed import open_run
from pi0_jax.run.methods import BASE
from pi0_jax.run.same_config import LABELS
from pi0_jax.run.session import Work
from pi0_jax.training.hardware import cache_programs
from pi0_jax.training.step import SampledLoss


def main(arguments: cli.Arguments) -> None:
    """Trains, judges, writes RUN/policy and the report; continues where it stopped."""
    settings = with_own_start(fine_tune_settings(arguments.config), arguments.workdir)
    cache_programs(settings.compilation_cache)
    start = find_start(settings)
    # Stored with the config, so that --resume refuses other data or weights in the same place.
    stored = {"demonstrations_digest": start.everything.digest}
    stored |= {LABELS: start.everything.labels_digest}
    if settings.init.statistics not in (OF_CHECKPOINT, OF_DEMONSTRATIONS):
        # A file, which may be made anew in the same place.
        stored["statistics_digest"] = start.stats.digest
    if settings.init.checkpoint:
        stored["init_digest"] = fingerprint(Path(settings.init.checkpoint).expanduser())
    stored |= arguments.config.to_dict()
    run = open_run(
        arguments.workdir,
        stored,
        arguments.resume,
        settings.wandb_project,
        settings.verbosity,
        defaults(FineTuneSettings),
        arguments.from_step,
    )
    for finding in start.findings:
        run.message(str(finding))
    final = _train(run, settings, start)
    talk.first(lambda: _conclude(run, settings, start, final))


def _conclude(
    run: RunFolder, settings: FineTuneSettings, start: FineTuneStart, final: PolicyFolder
) -> None:
    """Writes the policy, what it predicts, and the report."""
    export(run, final)
    run.message(f"policy {run.path / 'policy'}", RESULTS)
    policy = _acting(settings, final, final.params)
    write_predictions(run.path, policy, judged(start)[: settings.held_out.shown])
    run.message(f"report {write_report(run.path)}", RESULTS)


def _train(run: RunFolder, settings: FineTuneSettings, start: FineTuneStart) -> PolicyFolder:
    """The best policy of the training."""
    first = start_policy(settings, start)
    first = first or init_policy(start.spec, start.stats, settings.seed)
    run.message(f"policy: {param_count(first.params):,} parameters, robot {start.spec.robot.name}")
    first = kept_start(run, first, [settings.sft.optimizer])
    held = sum(len(folder.recordings) for folder in start.held.folders)
    run.message(f"learnt: {start.learnt}; held out: {held} episodes")
    loss = partial(_loss, settings, first)
    config, model = settings.held_out, start.spec.model
    steps = judged_steps(
        judged(start), model.action_horizon, config.windows, model.vision.image_size
    )
    scale = scale_of([one.actions for one in start.learnt.recordings])
    # Its own parameters are not used, and stay on the host.
    policy = _acting(settings, first, first.params)
    judge = HeldOutJudge(run, policy, steps, loss(Pi0(model)), scale)
    work, keep = Work(run, settings.seed), settings.checkpoints.keep
    return supervise(
        work, BASE, first, start.learnt, settings.sft, settings.hardware, keep, loss, judge
    )


def judged(start: FineTuneStart) -> list[Recording]:
    """Held-out episodes that are worth imitating; all of them if none of these is known to be."""
    recordings = start.held.recordings
    good = [one for one in recordings if one.success in (None, 1.0)]
    return good or list(recordings)


def _loss(settings: FineTuneSettings, start: PolicyFolder, model: Pi0) -> SampledLoss:
    """Flow matching, or that of both branches where outcomes weigh the episodes."""
    if has_outcomes(settings):
        return settings.cfg.loss(model, settings.sft.time_samples, start.spec.branch_mode)
    return imitation(start, settings.sft.time_samples, model)


def _acting(settings: FineTuneSettings, folder: PolicyFolder, params: dict) -> Policy:
    steps = settings.held_out.num_flow_steps
    model = Pi0(folder.spec.model)
    return Policy(model, params, folder.transforms, 1.0, steps, settings.rows)
