"""Does a policy of LIBERO do what it is told? Stored episodes are executed again.

python bench/told.py RUN

RUN is a folder of eval.py whose config.task.instructions gives tasks the words of other tasks of
the suite, in a scene that they share (libero_goal). Counts how many episodes fulfilled the goal of
their own task, and how many at some time that of the task whose words they were told.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import eval_settings
from pi0_jax.env.base import Job
from pi0_jax.env.robosuite import libero_files
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero import LiberoTask, libero_tasks
from pi0_jax.env.robosuite.libero_import import libero_with
from pi0_jax.env.robosuite.skills.scene import Scene
from pi0_jax.env.suite import make_suite
from pi0_jax.rollout.episode_log import EpisodeLog
from pi0_jax.run import engines
from pi0_jax.run.success import wilson


def main() -> None:
    """Prints a markdown table per evaluation, one line per task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    settings = eval_settings(load_config(str(run / "config.json")))
    suite = make_suite(settings.suite, settings.task)
    tasks = {task.name: task for task in suite.tasks}
    says = {task.instruction: task for task in libero_tasks(settings.suite)}
    with (
        engines.reached(settings.pool),
        engines.started(settings.pool, choose_renderer(), suite.asset_folders) as pool,
    ):
        for file in sorted((run / "episodes" / "eval").glob("*.npz")):
            episodes = [one for one in EpisodeLog(file).load() if not one.error]
            jobs = [
                Job(tasks[one.task], fulfilled, (one.seed, one.actions, says[one.prompt]))
                for one in episodes
            ]
            done = [over.result for over in pool.run_all(jobs)]
            told = {name: [] for name in tasks}
            for one, did in zip(episodes, done, strict=True):
                if did is not None:
                    told[one.task].append((one.success, did))
            print(f"\n{file.stem}\n\n| task | told | its own goal | the told goal |")
            print("|---|---|---:|---:|")
            for name, task in tasks.items():
                own, other = (share(list(column)) for column in zip(*told[name], strict=True))
                print(f"| {name} | {task.instruction} | {own} | {other} |")


def fulfilled(simulator: Any, seed: int, actions: np.ndarray, told: LiberoTask) -> bool:
    """Job function: whether float32[t, 7] actions fulfil the goal of another task at some time."""
    first = simulator.start(seed).state
    scene = Scene(simulator._env, simulator._arm)
    goal = goal_of(told)
    simulator.load(first)
    for action in actions:
        simulator.step(action)
        if all(scene.holds(one) for one in goal):
            return True
    return False


def goal_of(task: LiberoTask) -> list[list[str]]:
    """The predicates of a task's goal file."""
    with libero_with(task.assets) as envs:
        path = str(libero_files.goal_file(task.suite, task.file_name))
        return envs.bddl_utils.robosuite_parse_problem(path)["goal_state"]


def share(outcomes: list[bool]) -> str:
    """Successes of episodes with the Wilson interval in per cent."""
    low, high = wilson(sum(outcomes), len(outcomes))
    return f"{sum(outcomes)} of {len(outcomes)} [{100 * low:.0f}, {100 * high:.0f}]"


if __name__ == "__main__":
    main()
