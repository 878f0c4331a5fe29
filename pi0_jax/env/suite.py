"""Suites of tasks by name, with the scripted demonstrator that can demonstrate them."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pi0_jax.env.aloha.package import assets as aloha_assets
from pi0_jax.env.aloha.tasks import AlohaTask, Insertion, TransferCube
from pi0_jax.env.base import Job, Task
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.libero import LiberoTask, libero_tasks
from pi0_jax.env.robosuite.libero_assets import described
from pi0_jax.env.robosuite.libero_suites import SUITES, check_complete
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.errors import InputError
from pi0_jax.plain_values import build, nearest
from pi0_jax.robot import Robot


def _alone(kind: Callable[..., Task]) -> Callable[..., tuple[Task, ...]]:
    """Makes the only task of a suite, with the signature of the task."""

    @functools.wraps(kind, updated=())
    def make(**options: Any) -> tuple[Task, ...]:
        """The suite's tasks."""
        return (kind(**options),)

    return make


_SUITES: dict[str, Callable[..., tuple[Task, ...]]] = {
    "aloha_transfer_cube": _alone(TransferCube),
    "aloha_insertion": _alone(Insertion),
    "lift": _alone(LiftTask),
    "scripted": _alone(ScriptedTask),
    **{name: functools.partial(libero_tasks, name) for name in SUITES},
}


_LISTS = {"tasks", "instructions"}
"""Options of which each of several suites may have its own."""


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

    @property
    def assets(self) -> str:
        """Whose meshes and textures the tasks show; "" where the simulator has its own."""
        return ", ".join(described(Path(folder)) for folder in self.asset_folders)

    @property
    def asset_folders(self) -> tuple[str, ...]:
        """The folders of these, which every machine with a simulator must have."""
        named = [task.assets for task in self.tasks if isinstance(task, LiberoTask)]
        return tuple(dict.fromkeys(named))

    def check_states(self, seeds: Sequence[int]) -> None:
        """Checks that every task has initial states of these numbers.

        Raises:
            InputError: a task has none of a number.
        """
        for task in self.tasks:
            if isinstance(task, LiberoTask):
                for seed in seeds:
                    task.check_state(seed)

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


def task_options(name: str) -> dict[str, Any]:
    """Every key of `make_suite`'s options with its default, those of the demonstrator below.

    Raises:
        InputError: unknown name.
    """
    shared: dict[str, Any] = {}
    for one in reversed(_names(name)):
        found = inspect.signature(_SUITES[one]).parameters.values()
        # A robot is no plain value that a command line could set.
        own = {option.name: option.default for option in found if option.name != "robot"}
        shared = {key: own[key] for key in own if key in shared or not shared}
    return {**shared, "demonstrator": asdict(DemonstratorConfig())}


def make_suite(name: str, options: Mapping[str, Any]) -> Suite:
    """A suite by name, or several as one: "libero_spatial+libero_object".

    Args:
        name: name of the suite, or of several with a plus between them.
        options: fields of its task, or arguments of `libero.libero_tasks` for the suites of LIBERO;
            those of its demonstrator are under "demonstrator". Of several suites each has the same
            `tasks` and `instructions`, or its own where these are tuples of tuples.

    Raises:
        InputError: unknown name, field or task, or files or a package that are missing.
    """
    names, options, known = _names(name), dict(options), task_options(name)
    if strange := sorted(options.keys() - known.keys()):
        raise InputError(
            f"unknown config key task.{strange[0]} of suite {name!r}; the nearest valid key is "
            f"task.{nearest(strange[0], known)}"
        )
    style = build("task.demonstrator", DemonstratorConfig, options.pop("demonstrator", {}))
    try:
        each = zip(names, _options_of_each(names, options), strict=True)
        tasks = [task for one, own in each for task in _SUITES[one](**own)]
        if any(isinstance(task, AlohaTask) for task in tasks):
            aloha_assets()
        return _checked(Suite(name, tuple(tasks), style))
    except TypeError as error:
        raise InputError(f"config.task of suite {name!r}: {error}") from error


def _options_of_each(names: Sequence[str], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options of each suite: lists of lists are dealt out, all else is the same for all.

    Raises:
        InputError: a list of lists does not have one per suite.
    """
    each: list[dict[str, Any]] = [dict(options) for _ in names]
    for key in sorted(_LISTS & options.keys()):
        parts = options[key]
        nested = isinstance(parts, tuple | list) and [isinstance(p, tuple | list) for p in parts]
        if not nested or not any(nested):
            continue
        if len(parts) != len(names) or not all(nested):
            raise InputError(
                f"config.task.{key}: expected one tuple per suite of {'+'.join(names)}, or one for "
                f"all of them, got {parts!r}"
            )
        for own, part in zip(each, parts, strict=True):
            own[key] = part
    return each


def _names(name: str) -> list[str]:
    """The suites that are meant.

    Raises:
        InputError: one is unknown, or named twice.
    """
    names = name.split("+")
    for one in names:
        check_complete(one)
    if wrong := [one for one in names if one not in _SUITES]:
        raise InputError(f"suite must be one of {sorted(_SUITES)}, or several, got {wrong[0]!r}")
    if len(set(names)) < len(names):
        raise InputError(f"suite names each suite once, got {name!r}")
    return names


def _checked(suite: Suite) -> Suite:
    """Checks that all tasks have the same robot: else no policy could act in all of them."""
    robots = {task.robot.name for task in suite.tasks}
    if len({task.robot for task in suite.tasks}) > 1:
        raise InputError(f"the tasks of {suite.name} have different robots: {sorted(robots)}")
    return suite
