"""Evaluate a policy folder: success table with intervals, a line an episode, videos, report.

python eval.py --checkpoint POLICY --config configs/demo.py --workdir OUT
    [--resume] [--config.eval.guidance=(1.0,2.0)] [--config.eval.execute_steps=5] [...]
"""

from pathlib import Path

from absl import flags

from pi0_jax.apps import cli
from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import check_robot, load_policy
from pi0_jax.report.page import write_report
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_policy
from pi0_jax.rollout.record_videos import record_videos
from pi0_jax.run.session import open_session
from pi0_jax.run.success import table

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "policy folder to evaluate")
METHOD = "policy"


def main() -> None:
    """Evaluates at every guidance scale of config.eval that the run folder does not hold yet."""
    if not CHECKPOINT.value:
        raise InputError("--checkpoint is missing: name a policy folder, e.g. runs/demo/policy")
    config = cli.CONFIG.value
    suite = make_suite(config.suite, config.task.to_dict())
    evaluation = EvalConfig(**config.eval)
    folder = load_policy(Path(CHECKPOINT.value))
    check_robot(folder.spec.robot, suite.robot)
    for task in suite.tasks:
        folder.transforms.prompt(task.instruction)  # the tokenizer is there, the prompt fits
    evaluation.executed(folder.spec)
    checkpoint = str(Path(CHECKPOINT.value).resolve())
    resume = cli.RESUME.value
    with open_session(cli.workdir(), resume, config, suite, checkpoint=checkpoint) as session:
        evaluate_policy(session, evaluation, "eval", METHOD, folder, evaluation.guidance)
        record_videos(session, (METHOD,), evaluation.guidance[0], evaluation.videos)
    run = session.run
    run.message(f"results in {run.path}\n\n{table(run.rows)}\n")
    run.message(f"report {write_report(run.path)}")
    if not any(row.episodes for row in run.rows):
        raise RuntimeError("every episode ended in a simulator error: nothing was measured")


if __name__ == "__main__":
    cli.launch(main)
