"""Evaluations of a run folder, as they were stored, and its simulators to look at them again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import eval_settings
from pi0_jax.env.base import Job, Task
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import Suite, make_suite
from pi0_jax.episode import Episode
from pi0_jax.rollout.episode_log import EpisodeLog
from pi0_jax.run import engines


def evaluations(run: Path, name: str = "*") -> dict[str, list[Episode]]:
    """Episodes of each evaluation by its name; without those in which a simulator failed."""
    files = sorted((run / "episodes" / "eval").glob(f"{name}.npz"))
    return {file.stem: [e for e in EpisodeLog(file).load() if not e.error] for file in files}


def run_jobs(run: Path, jobs_of: Callable[[Suite, Mapping[str, Task]], list[Job]]) -> list[Any]:
    """Results of jobs in simulators of a run's tasks; None where a simulator failed.

    Args:
        run: folder of eval.py or train.py.
        jobs_of: the suite of its config, and the suite's tasks by name -> jobs.
    """
    settings = eval_settings(load_config(str(run / "config.json")))
    suite = make_suite(settings.suite, settings.task)
    jobs = jobs_of(suite, {task.name: task for task in suite.tasks})
    with (
        engines.reached(settings.pool),
        engines.started(settings.pool, choose_renderer(), suite.asset_folders) as pool,
    ):
        return [over.result for over in pool.run_all(jobs)]
