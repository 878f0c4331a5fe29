"""The two tasks of gym-aloha: 14 absolute joints, one camera, physics and assets of that package.

Importing this is cheap: MuJoCo and gym-aloha are imported where the simulator is built.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pi0_jax.errors import InputError, check_choices
from pi0_jax.ranges import check_ranges
from pi0_jax.robot import Robot
from pi0_jax.robots import load_robot

if TYPE_CHECKING:
    from pi0_jax.env.aloha.simulator import AlohaSimulator

EXACT, COARSE = "exact", "coarse"

ALOHA_SIM = load_robot("aloha_sim")
"""State and actions: the joints of both arms [rad], and grippers from 0 (closed) to 1 (open)."""


@dataclass(frozen=True, kw_only=True)
class AlohaTask(ABC):
    """What the tasks of gym-aloha share: an action is 14 joint positions, for 20 ms.

    Attributes:
        instruction: given to the policy, which knows the words that it was trained with.
        image_height: height [px] of the picture; its width is 4/3 of that, as in gym-aloha.
        pictures: "exact" for gym-aloha's own rendering, or "coarse" for policies trained from
            scratch: no shadows, a twentieth of the time where there is no graphics card.
        max_steps: control steps (50 Hz) after which an episode has failed. lerobot allows 400,
            `gym.make` 300.
    """

    instruction: str
    image_height: Annotated[int, "[24, 1440]"] = 480
    pictures: str = EXACT
    max_steps: Annotated[int, "[1, 1e6]"] = 400

    def __post_init__(self) -> None:
        """Checks sizes.

        Raises:
            InputError: a value is out of range; the message names it.
        """
        check_ranges("task", self)
        check_choices("task", self, {"pictures": (EXACT, COARSE)})
        if not self.instruction.strip():
            raise InputError("task.instruction must be the words of the task, got none")

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique over suites, usable as a file name."""

    @abstractmethod
    def build(self) -> "AlohaSimulator":
        """Builds the simulator in a second.

        Raises:
            InputError: gym-aloha is not installed.
        """

    @property
    def settle_steps(self) -> int:
        """None: as in gym-aloha, the objects fall 3 cm while the episode begins."""
        return 0

    @property
    def robot(self) -> Robot:
        """Two ViperX arms and a camera above the table."""
        return ALOHA_SIM


@dataclass(frozen=True, kw_only=True)
class TransferCube(AlohaTask):
    """The right arm takes the cube and gives it to the left one.

    Attributes:
        instruction: that of openpi's `pi0_aloha_sim`; the data `lerobot/aloha_sim_transfer_cube_*`
            have "Pick up the cube with the right arm and transfer it to the left arm."
    """

    instruction: str = "Transfer cube"

    @property
    def name(self) -> str:
        """Unique over suites, usable as a file name."""
        return "aloha_transfer_cube"

    def build(self) -> "AlohaSimulator":
        """As in `AlohaTask`."""
        from pi0_jax.env.aloha.transfer_cube import TransferCubeSimulator

        return TransferCubeSimulator(self)


@dataclass(frozen=True, kw_only=True)
class Insertion(AlohaTask):
    """The right arm takes the peg, the left one the socket; both put one into the other.

    Attributes:
        instruction: that of the data `lerobot/aloha_sim_insertion_*`.
    """

    instruction: str = "Insert the peg into the socket."

    @property
    def name(self) -> str:
        """Unique over suites, usable as a file name."""
        return "aloha_insertion"

    def build(self) -> "AlohaSimulator":
        """As in `AlohaTask`."""
        from pi0_jax.env.aloha.insertion import InsertionSimulator

        return InsertionSimulator(self)
