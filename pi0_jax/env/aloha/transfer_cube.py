"""The simulator of `tasks.TransferCube`, with its demonstrator; runs in a worker process."""

# gym-aloha is an optional dependency.
# pyright: reportMissingImports=false

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_jax.env.aloha.hands import CLOSED, OPEN, Hands, Pose, draw_error
from pi0_jax.env.aloha.simulator import AlohaSimulator
from pi0_jax.env.aloha.tasks import AlohaTask
from pi0_jax.env.demonstrator import DemonstratorConfig

_CUBE, _LEFT_FINGER = "red_box", "vx300s_left/10_left_gripper_finger"
_ON_TABLE_M = 0.02  # height of the cube's centre there
_STEEP = np.radians(60)  # the right hand takes the cube by its sides and leaves its ends free
_MEETING = np.array([0.0, 0.5, 0.25])  # m, between the arms
_BEFORE = np.array([-0.1, 0.0, 0.0])  # m, from where the left hand comes
_DEEP = np.array([-0.01, 0.0, 0.0])  # m: its pads are this far from the cube's centre


class TransferCubeSimulator(AlohaSimulator):
    """A cube on the right half of the table."""

    def __init__(self, task: AlohaTask) -> None:
        super().__init__(task, "bimanual_viperx_transfer_cube.xml")

    def place(self, seed: int | Sequence[int]) -> np.ndarray:
        """float64[7]: the cube's position [m] and quaternion."""
        from gym_aloha.utils import sample_box_pose

        return sample_box_pose(seed)

    def solved(self, touching: set[tuple[str, str]]) -> bool:
        """Whether the left hand touches the cube and the table does not."""
        return (_CUBE, _LEFT_FINGER) in touching and (_CUBE, "table") not in touching

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yields actions float64[14]: takes the cube, brings it to the middle, hands it over."""
        hands = Hands(self, rng.uniform(*style.speed))
        cube = self.data.body("box").xpos.copy()
        cube[2] = _ON_TABLE_M  # it still falls
        take = Pose(cube + draw_error(style, rng), _STEEP)
        # The left hand lies on its side, so that its fingers come above and below the cube.
        receive = Pose(_MEETING + _DEEP + draw_error(style, rng), 0.0, np.pi / 2)
        yield from hands.grip(5, right=OPEN)
        yield from hands.move(right=take.above(rng.uniform(*style.hover)))
        yield from hands.move(right=take)
        yield from hands.wait(5)
        yield from hands.grip(20, right=CLOSED)
        yield from hands.grip(5, left=OPEN)
        yield from hands.move(right=Pose(_MEETING, _STEEP), left=receive.shifted(_BEFORE))
        yield from hands.wait(10)
        yield from hands.move(left=receive)
        yield from hands.wait(5)
        yield from hands.grip(20, left=CLOSED)
