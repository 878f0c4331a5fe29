"""A point-mass task in plain NumPy, with the interface of the real ones: for tests and dry runs.

A hand moves in a square towards a target. The prompt, images and state have the shapes of a robot
task, an episode takes microseconds, and success depends on the actions, as with a robot.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pi0_jax.env.base import ChunkResult, SimState
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.stepping import SteppedSimulator
from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges
from pi0_jax.robot import Robot, named, numbered

_RED, _BLUE = np.array([1.0, 0.1, 0.0]), np.array([0.0, 0.3, 1.0])
_SPOT = 0.12  # standard deviation of a painted spot; the square has side 2

SCRIPTED_ROBOT = Robot(
    name="scripted",
    cameras=("fixed", "hand"),
    state=(*named(("x", "y"), ""), *numbered("unused", 6)),
    actions=named(("x", "y", *(f"ignored_{i}" for i in range(5))), "", limit=1.0),
    gripper="none",
)
"""As many dimensions as LIBERO's robot, of which two are used; the second camera is on the hand."""


@dataclass(frozen=True)
class ScriptedTask:
    """Bring the hand to the target. Action 0 and 1 move it by `speed` each; others are ignored.

    Attributes:
        name: unique over suites.
        instruction: given to the policy.
        max_steps: steps after which an episode has failed.
        image_size: height and width [px].
        tolerance: distance to the target that counts as success; the square has side 2.
        speed: distance of one step with an action of 1.
        robot: at least two actions, two values of state, and one camera or two; its first camera
            does not move, its second moves with the hand.
    """

    name: str = "scripted"
    instruction: str = "reach the dot"
    max_steps: Annotated[int, "[1, 1e6]"] = 24
    image_size: Annotated[int, "[8, 2048]"] = 32
    tolerance: Annotated[float, "[0, 100]"] = 0.15
    speed: Annotated[float, "(0, 2]"] = 0.1
    robot: Robot = SCRIPTED_ROBOT

    def __post_init__(self) -> None:
        """Checks sizes.

        Raises:
            InputError: a size is out of range; the message names it.
        """
        check_ranges("task", self)
        if not re.fullmatch(r"\w[\w.-]{0,99}", self.name):
            raise InputError(
                f"task.name must be letters, digits, '.', '-', '_' as file names have, got "
                f"{self.name!r}"
            )
        robot = self.robot
        if min(len(robot.state), len(robot.actions)) < 2 or len(robot.cameras) > 2:
            raise InputError(
                f"task.robot {robot.name!r}: a scripted task needs at least two values of state "
                "and two actions, and at most two cameras"
            )

    @property
    def settle_steps(self) -> int:
        """Nothing falls here."""
        return 0

    def build(self) -> "ScriptedSimulator":
        """Builds the simulator, which costs nothing."""
        return ScriptedSimulator(self)


class ScriptedSimulator(SteppedSimulator[ScriptedTask]):
    """A `base.Simulator` and a `demonstrator.DemonstratorSimulator` of one `ScriptedTask`.

    Its state is `hand` and `target`, float64[2] each in [-1, 1].
    """

    def __init__(self, task: ScriptedTask) -> None:
        super().__init__(task)
        self._hand = np.zeros(2)
        self._target = np.zeros(2)

    def start(self, seed: int) -> ChunkResult:
        """Draws hand and target from `seed`, and renders."""
        rng = np.random.default_rng(seed)
        self._hand, self._target = rng.uniform(-1, 1, (2, 2))
        return self.boundary()

    def step(self, action: np.ndarray) -> bool:
        """Moves the hand by one action, float[e]; returns whether it is at the target."""
        move = self.task.speed * np.asarray(action[:2], np.float64)
        self._hand = np.clip(self._hand + move, -1, 1)
        return bool(np.linalg.norm(self._hand - self._target) < self.task.tolerance)

    def proprio(self) -> np.ndarray:
        """float32[s]: the hand's position, then zeros."""
        zeros = np.zeros(len(self.task.robot.state) - 2)
        return np.concatenate([self._hand, zeros]).astype(np.float32)

    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3]: target (red) and hand (blue), seen from the square and the hand."""
        fixed = self._paint(self._hand, self._target)
        # The hand is the middle of its own picture, which shows twice as much as the fixed one.
        moving = self._paint(np.zeros(2), (self._target - self._hand) / 2)
        return np.stack([fixed, moving][: len(self.task.robot.cameras)])

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Actions float64[e] towards the target, with an error of the style's `offset_sigma`."""
        goal = self._target + rng.normal(0, style.offset_sigma, 2)
        speed = rng.uniform(*style.speed)
        while True:
            move = np.clip((goal - self._hand) / self.task.speed, -speed, speed)
            yield np.concatenate([move, np.zeros(len(self.task.robot.actions) - 2)])

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[e]: the style's noise in the two dimensions that move the hand, else 0."""
        noise = np.zeros(len(self.task.robot.actions))
        noise[:2] = style.action_noise
        return noise

    def load(self, state: SimState) -> None:
        """Goes to `state`."""
        self._hand, self._target = state.arrays["hand"].copy(), state.arrays["target"].copy()

    def save(self) -> SimState:
        """The present state as a value."""
        return SimState({"hand": self._hand.copy(), "target": self._target.copy()})

    def _paint(self, hand: np.ndarray, target: np.ndarray) -> np.ndarray:
        """uint8[h, w, 3]: two round spots on white; their centres are in [-1, 1]."""
        axis = np.linspace(-1, 1, self.task.image_size)
        image = np.ones((len(axis), len(axis), 3))
        for centre, colour in ((target, _RED), (hand, _BLUE)):
            # Squared distance to the spot, [h, w]; x goes to the right, y downwards.
            square = (axis[None, :] - centre[0]) ** 2 + (axis[:, None] - centre[1]) ** 2
            cover = np.exp(-square / (2 * _SPOT**2))[..., None]
            image = image * (1 - cover) + colour * cover
        return np.round(255 * image).astype(np.uint8)
