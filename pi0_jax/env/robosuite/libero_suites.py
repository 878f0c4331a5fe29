"""LIBERO's five suites, and those of LIBERO-PRO (arXiv 2510.03827) whose files are complete."""

import functools
import runpy
from dataclasses import dataclass

from pi0_jax.env.robosuite.libero_package import PRO, package, version
from pi0_jax.errors import InputError


@dataclass(frozen=True)
class SuiteFacts:
    """What a suite's evaluation needs beside its files.

    Attributes:
        max_steps: control steps (20 Hz) after which an episode has failed.
        own_states: the benchmark's own initial states of each task.
        pro: whether it is one of LIBERO-PRO.
        changes: the suite whose tasks it changes, often in another order; "" for none.
        solved: tasks whose goal is where their objects begin, so that nothing is to be done.
    """

    max_steps: int
    own_states: int = 50
    pro: bool = False
    changes: str = ""
    solved: tuple[int, ...] = ()


# Those of openpi's and RIPT-VLA's evaluations, a little above the longest demonstration.
_LIBERO = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
# What LIBERO-PRO changes in a suite: words, looks and places of objects, the goal; or it adds one.
_CHANGES = {
    "libero_spatial": ("lan", "object", "swap", "task", "with_mug", "with_yellow_book"),
    "libero_object": ("lan", "object", "swap", "task", "with_mug", "with_yellow_book"),
    "libero_goal": ("lan", "object", "swap", "task", "with_mug", "with_yellow_book"),
    "libero_10": ("lan", "object", "swap", "task", "with_mug"),
}
# LIBERO-PRO's README gives a changed suite the limit of the suite that it changes. Two are changes
# of none: theirs is ours to choose, and is that of LIBERO's short tasks in many scenes.
_PRO = {
    f"{suite}_{change}": SuiteFacts(_LIBERO[suite], pro=True, changes=suite)
    for suite in _CHANGES
    for change in _CHANGES[suite]
}
_OTHER = {
    "libero_object_two_normal_episodes": SuiteFacts(280, pro=True),
    "libero_mine": SuiteFacts(400, pro=True),
    "libero_study_table": SuiteFacts(400, pro=True, solved=(1, 2)),
}
# One object more, and fewer initial states.
_WITH_MILK = {
    f"{suite}_with_milk": SuiteFacts(_LIBERO[suite], own_states=10, pro=True, changes=suite)
    for suite in ("libero_goal", "libero_spatial")
}

SUITES = {
    **{name: SuiteFacts(steps) for name, steps in _LIBERO.items()},
    **_PRO,
    **_OTHER,
    **_WITH_MILK,
}
"""Every suite by name; tests/test_libero_suites.py holds the list equal to the files."""


@functools.cache
def task_map() -> dict[str, tuple[str, ...]]:
    """File names of the tasks, in the benchmark's order, of every suite that the package names.

    Raises:
        InputError: LIBERO is not installed.
    """
    path = package() / "benchmark" / "libero_suite_task_map.py"
    tasks = runpy.run_path(str(path))["libero_task_map"]
    return {suite: tuple(names) for suite, names in tasks.items()}


def task_names(suite: str) -> tuple[str, ...]:
    """The tasks of a suite in the benchmark's order.

    Raises:
        InputError: LIBERO is not installed, or its package has no such suite.
    """
    if suite not in task_map():
        raise InputError(f"{suite} is a suite of LIBERO-PRO: install {PRO} in place of hf-libero")
    return task_map()[suite]


def check_complete(suite: str) -> None:
    """Checks that a name is not that of a suite with incomplete files; other names pass.

    Raises:
        InputError: LIBERO-PRO names the suite, but its files were never published.
    """
    if suite in SUITES or not suite.startswith("libero_") or not version(PRO):
        return
    if suite in task_map():
        raise InputError(
            f"{suite}: {PRO} names this suite, but goals, initial states or models of its tasks "
            f"are missing there; docs/libero.md lists the {len(SUITES)} suites that have all"
        )
