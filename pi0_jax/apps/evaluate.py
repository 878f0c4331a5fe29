"""Evaluate a policy folder: success table with intervals, one line per episode, videos, report.

pi0-eval --checkpoint POLICY|--server ws://HOST:PORT --config CONFIG --workdir OUT
    [--resume] [--config.eval.guidance='(1.0,2.0)'] [--config.eval.execute_steps=5] [...]
    [--config.eval.reference=unconditional|base|none|FOLDER]

CONFIG as for pi0-train. In a clone, `python eval.py` is the same command.
"""

from typing import NoReturn

from pi0_jax.apps import cli
from pi0_jax.apps.conclude import conclude
from pi0_jax.apps.eval_reference import find_base, read_base
from pi0_jax.apps.eval_server import through_server
from pi0_jax.apps.settings import EvalSettings, TrainSettings, eval_settings
from pi0_jax.apps.start import fingerprint
from pi0_jax.env.suite import make_suite
from pi0_jax.hosts import talk
from pi0_jax.plain_values import defaults
from pi0_jax.policy.folder import load_policy
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.rollout.evaluate import evaluate_policy
from pi0_jax.rollout.record_videos import Acting, record_videos
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import open_session
from pi0_jax.training.hardware import cache_programs

METHOD = "policy"


def command() -> NoReturn:
    """`pi0-eval`."""
    cli.launch(main, __doc__ or "", checkpoint=True)


def main(arguments: cli.Arguments) -> None:
    """Evaluates at every guidance scale of config.eval that the run folder does not hold yet."""
    settings = eval_settings(arguments.config)
    if arguments.server:
        run = through_server(arguments, settings, METHOD)
    else:
        run = _from_folder(arguments, settings)
    talk.first(lambda: conclude(run))
    # After the report, so that it is written in any case.
    talk.first(lambda: check_measured(run))


def check_measured(run: RunFolder) -> None:
    """Checks that at least one episode says something about the policy.

    Raises:
        RuntimeError: every episode of every row ended in an error of the simulator.
    """
    if not any(row.episodes for row in run.rows):
        raise RuntimeError("every episode ended in a simulator error: nothing was measured")


def _from_folder(arguments: cli.Arguments, settings: EvalSettings) -> RunFolder:
    """Evaluates the policy in a folder."""
    assert arguments.checkpoint is not None  # cli.parse sees to it
    cache_programs(settings.compilation_cache)
    suite, evaluation = make_suite(settings.suite, settings.task), settings.eval
    folder = load_policy(arguments.checkpoint)
    # All checks before the session, which writes the first file and starts the simulators.
    check_robot(folder.spec.robot, suite.robot)
    for task in suite.tasks:
        folder.transforms.check_prompt(task.instruction)  # needs the tokenizer, and must fit
    evaluation.executed(folder.spec)
    suite.check_states(evaluation.seeds)
    base = find_base(folder, evaluation)
    folder = read_base(folder, base)
    # Stored with the config, so that --resume refuses to mix results of two checkpoints.
    stored = {"checkpoint": str(arguments.checkpoint.resolve()), **arguments.config.to_dict()}
    # What is there, not only where: a policy may be trained anew at the same path.
    stored["checkpoint_digest"] = fingerprint(arguments.checkpoint)
    if base:
        stored |= {"reference": str(base.resolve()), "reference_digest": fingerprint(base)}
    parts = (settings, suite, stored, defaults(TrainSettings))
    with open_session(arguments.workdir, arguments.resume, *parts) as session:
        evaluate_policy(session, evaluation, "eval", METHOD, folder, evaluation.sweep)
        shown = [Acting(METHOD, evaluation.sweep[0])]
        talk.first(lambda: record_videos(session, shown, evaluation.videos))
    return session.run
