"""A point-mass task in plain NumPy, with the interface of the real ones: for tests and dry runs.

A hand moves in a square towards a target. The prompt, images and state have the shapes of a robot
task, an episode costs microseconds, and success depends on the actions as it does on a robot.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0_jax.env.base import ChunkResult, SimState
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.stepping import ACTION_DIM, SteppedSimulator
from pi0_jax.errors import check_minima

_RED, _BLUE = np.array([1.0, 0.1, 0.0]), np.array([0.0, 0.3, 1.0])
_SPOT = 0.12  # standard deviation of a painted spot; the square has side 2


@dataclass(frozen=True)
class ScriptedTask:
    """Bring the hand to the target. Action 0 and 1 move it by `speed` each; the rest is ignored.

    Attributes:
        name: unique over suites.
        instruction: given to the policy.
        max_steps: steps after which an episode has failed.
        image_size: height and width [px].
        tolerance: distance to the target that is success; the square has side 2.
        speed: distance of one step under an action of 1.
    """

    name: str = "scripted"
    instruction: str = "reach the dot"
    max_steps: int = 24
    image_size: int = 32
    tolerance: float = 0.15
    speed: float = 0.1

    def __post_init__(self) -> None:
        """Checks sizes.

        Raises:
            InputError: named field.
        """
        check_minima("task", self, {"max_steps": 1, "image_size": 8})

    @property
    def settle_steps(self) -> int:
        """Nothing falls here."""
        return 0

    @property
    def cameras(self) -> tuple[str, ...]:
        """The second camera travels with the hand."""
        return ("fixed", "hand")

    def build(self) -> "ScriptedSimulator":
        """Builds the simulator, which is free."""
        return ScriptedSimulator(self)


class ScriptedSimulator(SteppedSimulator):
    """A `base.Simulator` and a `demonstrator.DemonstratorSimulator` of one `ScriptedTask`.

    Its state is `hand` and `target`, float64[2] each in [-1, 1].
    """

    def __init__(self, task: ScriptedTask) -> None:
        self.task, self.instruction = task, task.instruction
        self._hand = np.zeros(2)
        self._target = np.zeros(2)

    def start(self, seed: int) -> ChunkResult:
        """Draws hand and target from `seed`, and looks."""
        rng = np.random.default_rng(seed)
        self._hand, self._target = rng.uniform(-1, 1, (2, 2))
        return self.boundary()

    def close(self) -> None:
        """Nothing to free."""

    def step(self, action: np.ndarray) -> bool:
        """Moves the hand by one action, float[7]; returns whether it is at the target."""
        move = self.task.speed * np.asarray(action[:2], np.float64)
        self._hand = np.clip(self._hand + move, -1, 1)
        return bool(np.linalg.norm(self._hand - self._target) < self.task.tolerance)

    def proprio(self) -> np.ndarray:
        """float32[8]: the hand's position, then zeros."""
        return np.concatenate([self._hand, np.zeros(6)]).astype(np.float32)

    def images(self) -> np.ndarray:
        """uint8[2, h, w, 3]: target (red) and hand (blue), seen from the square and the hand."""
        fixed = self._paint(self._hand, self._target)
        moving = self._paint(np.zeros(2), (self._target - self._hand) / 2)
        return np.stack([fixed, moving])

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Actions, float64[7], to the target displaced by the style's offset."""
        goal = self._target + rng.normal(0, style.offset_sigma, 2)
        speed = rng.uniform(*style.speed)
        while True:
            move = np.clip((goal - self._hand) / self.task.speed, -speed, speed)
            yield np.concatenate([move, np.zeros(ACTION_DIM - 2)])

    def video_frame(self) -> np.ndarray:
        """uint8[h, w, 3]: what the fixed camera sees."""
        return self.images()[0]

    def load(self, state: SimState) -> None:
        """Makes `state` the present one."""
        self._hand, self._target = state.arrays["hand"].copy(), state.arrays["target"].copy()

    def save(self) -> SimState:
        """The present state as a value."""
        return SimState({"hand": self._hand.copy(), "target": self._target.copy()})

    def _paint(self, hand: np.ndarray, target: np.ndarray) -> np.ndarray:
        """uint8[h, w, 3]: two round spots on white, their centres in [-1, 1]."""
        axis = np.linspace(-1, 1, self.task.image_size)
        image = np.ones((len(axis), len(axis), 3))
        for centre, colour in ((target, _RED), (hand, _BLUE)):
            square = (axis[None, :] - centre[0]) ** 2 + (axis[:, None] - centre[1]) ** 2
            cover = np.exp(-square / (2 * _SPOT**2))[..., None]
            image = image * (1 - cover) + colour * cover
        return np.round(255 * image).astype(np.uint8)
