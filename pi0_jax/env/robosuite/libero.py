"""LIBERO (arXiv 2306.03310) and LIBERO-PRO: tasks, initial states and step limits, unchanged.

Importing this is cheap: LIBERO, robosuite and MuJoCo are imported where the simulator is built.

Initial states have numbers. 0 to 49 are the benchmark's own, on which results are reported. From 50
on, the number is a seed from which the objects are placed in the same regions as those of the
benchmark's own states; placements in which the goal holds already are drawn again. So training does
not use the states of an evaluation unless it is asked to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pi0_jax.env.robosuite import libero_files
from pi0_jax.env.robosuite.libero_assets import assets as find_assets
from pi0_jax.env.robosuite.libero_suites import SUITES, task_names
from pi0_jax.env.robosuite.panda_robot import PANDA
from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges
from pi0_jax.robot import Robot

if TYPE_CHECKING:
    from pi0_jax.env.robosuite.libero_simulator import LiberoSimulator

SETTLE_STEPS = 10  # control steps in which the objects fall some 6 cm and come to rest
OWN_STATES = 50  # from this number on, initial states are placed anew
# Tasks that `libero_demonstrator` was seen to do in at least 9 of 10 of the benchmark's own states
# (docs/libero.md). It plans from any goal; these three it cannot do: a book that has to be turned,
# two pots side by side on one burner, and a microwave.
DEMONSTRATED = {
    "libero_spatial": tuple(range(10)),
    "libero_object": tuple(range(10)),
    "libero_goal": tuple(range(10)),
    "libero_10": (0, 1, 2, 3, 4, 6, 7),
}
PICTURES = ("exact", "coarse")


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite.

    Attributes:
        suite: name of the suite.
        index: index of the task in the benchmark's order.
        file_name: name of the task's file, without its ending.
        assets: folder of meshes and textures.
        image_size: height and width [px] of both cameras.
        pictures: "exact" for LIBERO's own rendering, or "coarse" for policies trained from
            scratch: the arm by its collision shapes and no reflections, in a tenth of the time.
        given_instruction: said in place of the benchmark's words; "" for those. The goal stays what
            it is, so that words of another task show whether a policy reads.
    """

    suite: str
    index: Annotated[int, "[0, 1e4]"]
    file_name: str
    assets: str
    image_size: Annotated[int, "[8, 4096]"] = 256
    pictures: str = "exact"
    given_instruction: str = ""

    def __post_init__(self) -> None:
        """Checks values.

        Raises:
            InputError: a value is not allowed; the message names it.
        """
        check_ranges("task", self)
        if self.pictures not in PICTURES:
            raise InputError(f"task.pictures must be one of {PICTURES}, got {self.pictures!r}")

    @property
    def name(self) -> str:
        """Unique over suites, usable as a file name."""
        return f"{self.suite}_{self.index}"

    @property
    def instruction(self) -> str:
        """The language instruction given to the policy."""
        return self.given_instruction or libero_files.instruction(self.suite, self.file_name)

    @property
    def max_steps(self) -> int:
        """The suite's limit; the steps of settling before the episode are not counted."""
        return SUITES[self.suite].max_steps

    @property
    def settle_steps(self) -> int:
        """Control steps before the first observation in which objects come to rest; not counted."""
        return SETTLE_STEPS

    @property
    def robot(self) -> Robot:
        """A Panda with a fixed camera in front of it and one at its hand."""
        return PANDA

    def check_state(self, seed: int) -> None:
        """Checks that there is an initial state of this number.

        Raises:
            InputError: the benchmark has fewer of its own than 50, and this is none of them.
        """
        own = SUITES[self.suite].own_states
        if own <= seed < OWN_STATES:
            raise InputError(
                f"{self.suite} has {own} initial states of its own, 0 to {own - 1}, and states "
                f"placed anew from {OWN_STATES} on, got {seed}: set config.eval.episodes to {own}"
            )

    def check_demonstrator(self) -> None:
        """Checks that there is a scripted demonstrator of this task.

        Raises:
            InputError: there is none.
        """
        able = DEMONSTRATED.get(self.suite, ())
        if self.index not in able:
            which = ", ".join(map(str, able)) or "none"
            raise InputError(
                f"no scripted demonstrator for {self.name} ({self.instruction!r}): of "
                f"{self.suite} it can demonstrate the tasks {which}; "
                "choose among them with config.task.tasks"
            )

    def build(self) -> "LiberoSimulator":
        """Builds the simulator: about 2 s, and some seconds more the first time on a machine."""
        from pi0_jax.env.robosuite.libero_simulator import LiberoSimulator

        return LiberoSimulator(self)


def libero_tasks(
    suite: str,
    tasks: Sequence[int] = (),
    assets: str = "",
    image_size: int = 256,
    pictures: str = "exact",
    instructions: Sequence[str] = (),
) -> tuple[LiberoTask, ...]:
    """Tasks of a suite, each checked to exist.

    Args:
        suite: name in `libero_suites.SUITES`.
        tasks: indices in the benchmark's order; empty for all, but for those that are solved before
            anything is done.
        assets: folder of meshes and textures; empty for `libero_assets.assets` to find it.
        image_size: height and width [px] of both cameras.
        pictures: as in `LiberoTask`.
        instructions: one per task that is chosen, said in place of the benchmark's; empty for the
            benchmark's.

    Raises:
        InputError: no such task or one that is solved, not one instruction per task, or LIBERO or
            its assets are missing.
    """
    names, solved = task_names(suite), SUITES[suite].solved
    chosen = tuple(tasks) or tuple(index for index in range(len(names)) if index not in solved)
    wrong = [index for index in chosen if not 0 <= index < len(names)]
    if wrong or len(set(chosen)) < len(chosen):
        raise InputError(
            f"config.task.tasks: {suite} has the tasks 0 to {len(names) - 1}, each at most once; "
            f"got {chosen}"
        )
    if nothing := [index for index in chosen if index in solved]:
        raise InputError(
            f"config.task.tasks: the goal of {suite} {nothing[0]} is where its objects begin, so "
            f"every policy solves it: leave out {', '.join(map(str, solved))}"
        )
    said = tuple(instructions) or ("",) * len(chosen)
    if len(said) != len(chosen) or (instructions and not all(said)):
        raise InputError(
            f"config.task.instructions: expected the words of each of the {len(chosen)} tasks of "
            f"{suite} that are chosen, in their order, got {tuple(instructions)}"
        )
    folder = str(find_assets(assets, SUITES[suite].pro))
    return tuple(
        LiberoTask(suite, index, names[index], folder, image_size, pictures, words)
        for index, words in zip(chosen, said, strict=True)
    )
