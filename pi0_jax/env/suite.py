"""Suites of tasks by name, with the scripted expert that can demonstrate them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pi0_jax.env.base import Job, Task
from pi0_jax.env.expert import ExpertStyle, demonstrate
from pi0_jax.env.libero import STEP_LIMITS, LiberoTask, libero_tasks
from pi0_jax.env.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.errors import InputError

_SUITES: dict[str, Callable[..., tuple[Task, ...]]] = {
    "lift": lambda **options: (LiftTask(**options),),
    "scripted": lambda **options: (ScriptedTask(**options),),
    **{name: partial(libero_tasks, name) for name in STEP_LIMITS},
}


@dataclass(frozen=True)
class Suite:
    """Some tasks that are trained and evaluated together.

    Attributes:
        name: of the suite.
        tasks: at least one, all with the same cameras.
        style: how the scripted expert demonstrates them.
    """

    name: str
    tasks: tuple[Task, ...]
    style: ExpertStyle

    def demonstrations(self, seeds: Sequence[int]) -> list[Job]:
        """One job a seed that returns a demonstrated Episode; tasks take turns.

        Raises:
            InputError: a task has no expert.
        """
        for task in self.tasks:
            if isinstance(task, LiberoTask):
                task.check_expert()
        return [
            Job(self.tasks[i % len(self.tasks)], demonstrate, (seed, self.style))
            for i, seed in enumerate(seeds)
        ]


def make_suite(name: str, options: dict[str, Any]) -> Suite:
    """A suite by name.

    Args:
        name: of the suite.
        options: fields of its task, or of `libero.libero_tasks` for the suites of LIBERO; those
            of its expert stand under "expert".

    Raises:
        InputError: unknown name, field or task, or files that are missing.
    """
    if name not in _SUITES:
        raise InputError(f"suite must be one of {sorted(_SUITES)}, got {name!r}")
    options = dict(options)
    try:
        style = ExpertStyle(**options.pop("expert", {}))
        return Suite(name, _SUITES[name](**options), style)
    except TypeError as error:
        raise InputError(f"config.task of suite {name!r}: {error}") from error
