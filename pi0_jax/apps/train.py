"""Train pi0: demonstrations -> supervised flow matching -> RIPT -> evaluation -> report.

pi0-train --config CONFIG --workdir RUN [--resume [--from STEP]] [--config.KEY=VALUE ...]

CONFIG: demo, demo:full, libero:suite=NAME[,preset=NAME][,stage=NAME],
finetune:robot=NAME[,preset=NAME] (LeRobot folders of any robot, no simulator); a config file (.py,
.yaml); or the config.json of an earlier run. In a clone, `python train.py` is the same command.
"""

from pathlib import Path
from typing import Any, NoReturn

from pi0_jax.apps import cli, finetune
from pi0_jax.apps.conclude import conclude
from pi0_jax.apps.eval_reference import check_reference_settings, with_base
from pi0_jax.apps.finetune_settings import is_fine_tuning
from pi0_jax.apps.own_start import with_own_start
from pi0_jax.apps.sections import RiptSettings
from pi0_jax.apps.settings import TrainSettings, train_settings
from pi0_jax.apps.stages import base_policy, demonstrations, export, train_method
from pi0_jax.apps.start import check_start, fingerprint, recorded_demonstrations
from pi0_jax.apps.start_updates import check_updates
from pi0_jax.data.demonstrations import Demonstrations
from pi0_jax.env.suite import make_suite
from pi0_jax.hosts import talk
from pi0_jax.plain_values import defaults
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.reference import BASE as BASE_REFERENCE
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_policy
from pi0_jax.rollout.guidance import PLAIN, Guidance, strongest, sweep
from pi0_jax.rollout.record_videos import Acting, record_videos
from pi0_jax.run.folder import RESULTS, RunFolder
from pi0_jax.run.methods import BASE, RIPT
from pi0_jax.run.same_config import LABELS
from pi0_jax.run.session import Session, open_session
from pi0_jax.training.hardware import cache_programs


def command() -> NoReturn:
    """`pi0-train`."""
    cli.launch(main, __doc__ or "")


def main(arguments: cli.Arguments) -> None:
    """Runs every stage that the run folder does not hold yet."""
    if is_fine_tuning(arguments.config):
        finetune.main(arguments)
        return
    settings = with_own_start(train_settings(arguments.config), arguments.workdir)
    cache_programs(settings.compilation_cache)
    suite = make_suite(settings.suite, settings.task)
    methods = settings.methods(len(suite.tasks))
    # All checks before `open_session`, which makes the run folder: a wrong input leaves nothing.
    check_reference_settings(settings)
    recorded = recorded_demonstrations(settings, suite)
    check_updates(settings, check_start(settings, suite, methods), methods)
    # Stored with the config, so that --resume refuses other demonstrations in the same place.
    stored: dict[str, Any] = {}
    if recorded:
        stored |= {"demonstrations_digest": recorded.digest, LABELS: recorded.labels_digest}
    if settings.init.checkpoint:
        stored["init_digest"] = fingerprint(Path(settings.init.checkpoint).expanduser())
    stored |= arguments.config.to_dict()
    parts = (settings, suite, stored, defaults(TrainSettings), arguments.from_step)
    with open_session(arguments.workdir, arguments.resume, *parts) as session:
        demos = recorded or demonstrations(session, settings.demonstrations)
        session.run.message(f"demonstrations: {demos}")
        for finding in recorded.findings if recorded else ():
            session.run.message(str(finding))
        methods = methods if settings.rl.iterations else {}
        final = _train(session, settings, methods, demos)
        # Before the videos, which take minutes where rendering is slow.
        talk.first(lambda: _store(session.run, settings, final))
        shown = _shown(methods, settings.eval)
        talk.first(lambda: record_videos(session, shown, settings.eval.videos))
    talk.first(lambda: conclude(session.run))


def _store(run: RunFolder, settings: TrainSettings, final: PolicyFolder) -> None:
    """Writes the policy; a given checkpoint that was not trained is not written again."""
    if settings.rl.iterations or settings.sft.steps or not settings.init.checkpoint:
        export(run, final)
        run.message(f"policy {run.path / 'policy'}", RESULTS)


def _train(
    session: Session,
    settings: TrainSettings,
    methods: dict[str, RiptSettings],
    demos: Demonstrations,
) -> PolicyFolder:
    """Trains and evaluates the base policy and then every method; returns the last policy."""
    evaluation = settings.eval
    final = base = base_policy(session, settings, demos)
    # At guidance 1 alone: without RL both branches are the same, so a scale changes nothing.
    evaluate_policy(session, evaluation, "sft", BASE, _guided(evaluation, base, base), (PLAIN,))
    for name, ript in methods.items():
        final = train_method(session, settings, name, ript, base, demos)
        guided, points = _guided(evaluation, final, base), guidance_of(ript, evaluation)
        evaluate_policy(session, evaluation, "rl", name, guided, points)
    return with_base(final, base) if settings.keep_reference else final


def _guided(evaluation: EvalConfig, policy: PolicyFolder, base: PolicyFolder) -> PolicyFolder:
    """The policy with the base as its reference, if the evaluation asks for one."""
    return with_base(policy, base) if BASE_REFERENCE in evaluation.references else policy


def _shown(methods: dict[str, RiptSettings], evaluation: EvalConfig) -> list[Acting]:
    """The base, RIPT as it is, and RIPT with the strongest guidance of its evaluation."""
    if not methods:
        return [Acting(BASE, PLAIN)]
    guided = strongest(guidance_of(methods[RIPT], evaluation))
    points = [PLAIN, *([guided] if guided else [])]
    return [Acting(BASE, PLAIN), *(Acting(RIPT, point) for point in points)]


def guidance_of(ript: RiptSettings, evaluation: EvalConfig) -> tuple[Guidance, ...]:
    """How a method is guided in its evaluation: from its own branch only where it has one."""
    two = ript.groups.groups_per_iteration and ript.chosen.has_guidance
    # From a base, any method can be guided.
    references = [one for one in evaluation.references if two or one == BASE_REFERENCE]
    return (PLAIN, *(p for p in sweep(evaluation.guidance, references) if p != PLAIN))
