"""Does a policy of LIBERO do what it is told? Stored episodes are executed again.

python bench/told.py RUN

RUN is a folder of eval.py whose config.task.instructions gives tasks the words of other tasks of
the suite, in a scene that they share (libero_goal). Counts how many episodes fulfilled the goal of
their own task, and how many at some time that of the task whose words they were told.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rates import rate_text
from stored_runs import evaluations, run_jobs

from pi0_jax.env.base import Job, Task
from pi0_jax.env.robosuite import libero_files
from pi0_jax.env.robosuite.libero import LiberoTask, libero_tasks
from pi0_jax.env.robosuite.libero_import import libero_with
from pi0_jax.env.robosuite.skills.scene import Scene
from pi0_jax.env.suite import Suite
from pi0_jax.episode import Episode


def main() -> None:
    """Prints a markdown table per evaluation, one line per task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    for name, episodes in evaluations(run).items():
        done = run_jobs(run, partial(told_jobs, episodes))
        told = {}
        for one, did in zip(episodes, done, strict=True):
            if did is not None:
                told.setdefault((one.task, one.prompt), []).append((one.success, did))
        print(f"\n{name}\n\n| task | told | episodes | its own goal | the told goal |")
        print("|---|---|---:|---:|---:|")
        for (task, words), outcomes in told.items():
            own, other = (rate_text(sum(x), len(x)) for x in zip(*outcomes, strict=True))
            print(f"| {task} | {words} | {len(outcomes)} | {own} | {other} |")


def told_jobs(episodes: Sequence[Episode], suite: Suite, tasks: Mapping[str, Task]) -> list[Job]:
    """One job per episode, with the task of the suite whose words it was told."""
    says = {task.instruction: task for task in libero_tasks(suite.name)}
    return [
        Job(tasks[one.task], fulfilled, (one.seed, one.actions, says[one.prompt]))
        for one in episodes
    ]


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


if __name__ == "__main__":
    main()
