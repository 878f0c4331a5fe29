"""The simulator of `tasks.Insertion`, with its demonstrator; runs in a worker process."""

# gym-aloha is an optional dependency.
# pyright: reportMissingImports=false

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_jax.env.aloha.hands import CLOSED, OPEN, Hands, Pose, draw_error
from pi0_jax.env.aloha.simulator import AlohaSimulator
from pi0_jax.env.aloha.tasks import AlohaTask
from pi0_jax.env.demonstrator import DemonstratorConfig

_GRASPS = (("peg", 0.014), ("socket", 0.022))  # m above the table, where they are taken
_HALF_M = 0.06  # half the length of either
_SLANTED = np.radians(45)  # steeper fingers would reach the table before the peg
_LIFT_M = 0.1
_PEG_MEETS, _SOCKET_MEETS = np.array([0.16, 0.5, 0.2]), np.array([-0.06, 0.5, 0.2])  # m
# How far the peg's end is from the socket's mouth: twice in front of it, then inside. The pin that
# the peg must touch begins 20 mm behind the mouth.
_AHEAD_M = (0.03, 0.03, 0.0, -0.02, -0.04, -0.06)
_MOST_M, _MOST_RAD = 0.05, 0.2  # of one correction


class InsertionSimulator(AlohaSimulator):
    """A peg on the right half of the table, a socket on the left one; both lie along x."""

    def __init__(self, task: AlohaTask) -> None:
        super().__init__(task, "bimanual_viperx_insertion.xml")

    def place(self, seed: int | Sequence[int]) -> np.ndarray:
        """float64[14]: position [m] and quaternion of the peg, then of the socket."""
        from gym_aloha.utils import sample_insertion_pose

        return np.concatenate(sample_insertion_pose(seed))

    def solved(self, touching: set[tuple[str, str]]) -> bool:
        """Whether the peg touches the pin inside the socket."""
        return ("red_peg", "pin") in touching

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yields actions float64[14]: takes both, lifts them, aligns the peg while it goes in."""
        hands = Hands(self, rng.uniform(*style.speed))
        peg, socket = (self._grasp(*part, style, rng) for part in _GRASPS)
        height = rng.uniform(*style.hover)
        # The last error is one of aiming: half that of a grasp, because both ends are in sight.
        aim = draw_error(style, rng) / 2
        yield from hands.grip(5, right=OPEN, left=OPEN)
        yield from hands.move(right=peg.above(height), left=socket.above(height))
        yield from hands.move(right=peg, left=socket)
        yield from hands.wait(5)
        yield from hands.grip(20, right=CLOSED, left=CLOSED)
        yield from hands.move(right=peg.above(_LIFT_M), left=socket.above(_LIFT_M))
        held = Pose(_PEG_MEETS, _SLANTED)
        yield from hands.move(right=held, left=Pose(_SOCKET_MEETS, _SLANTED))
        yield from hands.wait(10)
        for ahead in _AHEAD_M:
            held = self._aligned(held, ahead, aim)
            yield from hands.move(right=held)
            yield from hands.wait(5)

    def _grasp(
        self, body: str, height: float, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Pose:
        """Where a hand takes an object, at this height [m] above the table."""
        place = self.data.body(body).xpos.copy()
        place[2] = height  # it still falls
        return Pose(place + draw_error(style, rng), _SLANTED)

    def _aligned(self, held: Pose, ahead: float, aim: np.ndarray) -> Pose:
        """The right hand so that the peg points into the socket, with its end `ahead` [m] of it."""
        peg, socket = self.data.body("peg"), self.data.body("socket")
        along, axis = peg.xmat.reshape(3, 3)[:, 0], socket.xmat.reshape(3, 3)[:, 0]
        gap = socket.xpos + (_HALF_M + ahead) * axis - (peg.xpos - _HALF_M * along)
        gap[1:] += aim[1:]  # along the socket, an error only delays
        tilt = axis[2] - along[2]  # rad, while both are nearly level
        shift = np.clip(gap, -_MOST_M, _MOST_M)
        return Pose(held.place + shift, held.pitch + np.clip(tilt, -_MOST_RAD, _MOST_RAD))
