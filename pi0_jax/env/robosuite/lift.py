"""robosuite's Lift with LIBERO's cameras and actions: a task that needs no download.

Importing this is cheap: robosuite and MuJoCo are imported where the simulator is built.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pi0_jax.env.robosuite.panda_robot import LIFT_PANDA
from pi0_jax.ranges import check_ranges
from pi0_jax.robot import Robot

if TYPE_CHECKING:
    from pi0_jax.env.robosuite.lift_simulator import LiftSimulator


SETTLE_STEPS = 5  # control steps with the gripper opening, in which the cube falls 1 cm


@dataclass(frozen=True)
class LiftTask:
    """Lift the cube 4 cm above the table.

    Attributes:
        placement: half-width [m] of the square in which the cube is placed uniformly.
        image_size: height and width [px] of both cameras.
        max_steps: control steps (20 Hz) after which an episode has failed.
    """

    placement: Annotated[float, "[0, 0.5]"] = 0.06
    image_size: Annotated[int, "[8, 2048]"] = 64
    max_steps: Annotated[int, "[1, 1e6]"] = 48

    def __post_init__(self) -> None:
        """Checks sizes.

        Raises:
            InputError: a value is out of range; the message names it.
        """
        check_ranges("task", self)

    @property
    def name(self) -> str:
        """Unique over suites, usable as a file name."""
        return "lift"

    @property
    def instruction(self) -> str:
        """The language instruction given to the policy."""
        return "lift the cube"

    @property
    def settle_steps(self) -> int:
        """Control steps before the first observation in which objects come to rest; not counted."""
        return SETTLE_STEPS

    @property
    def robot(self) -> Robot:
        """A Panda with a fixed camera in front of it and one at its hand."""
        return LIFT_PANDA

    def build(self) -> "LiftSimulator":
        """Builds the simulator: 2 s, and 4 s more the first time on a machine (compilation)."""
        from pi0_jax.env.robosuite.lift_simulator import LiftSimulator

        return LiftSimulator(self)
