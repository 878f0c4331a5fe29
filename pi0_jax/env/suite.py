"""Suites of tasks by name, with the scripted demonstrator that can demonstrate them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pi0_jax.env.base import Job, Task
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.libero import STEP_LIMITS, LiberoTask, libero_tasks
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot

_SUITES: dict[str, Callable[..., tuple[Task, ...]]] = {
    "lift": lambda **options: (LiftTask(**options),),
    "scripted": lambda **options: (ScriptedTask(**options),),
    **{name: partial(libero_tasks, name) for name in STEP_LIMITS},
}


@dataclass(frozen=True)
class Suite:
    """Some tasks that are trained and evaluated together.

    Attributes:
        name: name of the suite.
        tasks: at least one task, all with the same robot.
        style: how the scripted demonstrator demonstrates them.
    """

    name: str
    tasks: tuple[Task, ...]
    style: DemonstratorConfig

    @property
    def robot(self) -> Robot:
        """The robot of all tasks."""
        return self.tasks[0].robot

    def check_demonstrator(self) -> None:
        """Checks that every task has a scripted demonstrator.

        Raises:
            InputError: a task has none.
        """
        for task in self.tasks:
            if isinstance(task, LiberoTask):
                task.check_demonstrator()

    def demonstrations(self, seeds: Sequence[int]) -> list[Job]:
        """One job per seed, whose result is a demonstrated Episode; tasks take turns."""
        return [
            Job(self.tasks[i % len(self.tasks)], demonstrate, (seed, self.style))
            for i, seed in enumerate(seeds)
        ]


def make_suite(name: str, options: dict[str, Any]) -> Suite:
    """A suite by name, or several as one: "libero_spatial+libero_object".

    Args:
        name: name of the suite, or of several with a plus between them.
        options: fields of its task, or arguments of `libero.libero_tasks` for the suites of LIBERO;
            those of its demonstrator are under "demonstrator".

    Raises:
        InputError: unknown name, field or task, or files that are missing.
    """
    names = name.split("+")
    if wrong := [one for one in names if one not in _SUITES]:
        raise InputError(f"suite must be one of {sorted(_SUITES)}, or several, got {wrong[0]!r}")
    if len(set(names)) < len(names):
        raise InputError(f"suite names each suite once, got {name!r}")
    options = dict(options)
    try:
        style = DemonstratorConfig(**options.pop("demonstrator", {}))
        tasks = [task for one in names for task in _SUITES[one](**options)]
        return _checked(Suite(name, tuple(tasks), style))
    except TypeError as error:
        raise InputError(f"config.task of suite {name!r}: {error}") from error


def _checked(suite: Suite) -> Suite:
    """Checks that all tasks have the same robot: else no policy could act in all of them."""
    robots = {task.robot.name for task in suite.tasks}
    if len({task.robot for task in suite.tasks}) > 1:
        raise InputError(f"the tasks of {suite.name} have different robots: {sorted(robots)}")
    return suite
