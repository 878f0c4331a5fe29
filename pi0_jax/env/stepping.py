"""The chunk loop that every simulator shares: step, check success, render once at the end.

Axis letters: t control step, s state dimension, e action dimension, f video frame, r rendered step,
c camera, h height, w width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from pi0_jax.env.base import ChunkResult, SimState, Simulator, Task
from pi0_jax.episode import RawObs
from pi0_jax.robot import Robot

T = TypeVar("T", bound=Task)


@dataclass
class _Recorded:
    """What was recorded of a chunk so far; the fields are those of `ChunkResult`."""

    proprio: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    looks: list[np.ndarray] = field(default_factory=list)
    look_steps: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class SteppedTask:
    """A task made of its parts, for scripts and notebooks that need no class of their own.

    Attributes:
        name: unique over suites, usable as a file name.
        instruction: given to the policy.
        robot: the robot that acts.
        max_steps: control steps after which an episode has failed.
        simulator: builds the simulator from the task, such as a subclass of `SteppedSimulator`.
        settle_steps: control steps before the first observation; not counted.
    """

    name: str
    instruction: str
    robot: Robot
    max_steps: int
    simulator: Callable[["SteppedTask"], Simulator]
    settle_steps: int = 0

    def build(self) -> Simulator:
        """Builds the simulator; called once per worker and task."""
        return self.simulator(self)


class SteppedSimulator(ABC, Generic[T]):
    """A `base.Simulator` made of single steps. Subclasses are final.

    Attributes:
        task: the simulated task, with its robot.
    """

    task: T

    def __init__(self, task: T) -> None:
        """Keeps the task."""
        self.task = task

    @abstractmethod
    def save(self) -> SimState:
        """The present state as a value."""

    @abstractmethod
    def load(self, state: SimState) -> None:
        """Goes to `state`, independent of the state before."""

    @abstractmethod
    def step(self, action: np.ndarray) -> bool:
        """One control step of float[e] within the limits; returns success."""

    @abstractmethod
    def proprio(self) -> np.ndarray:
        """float32[s] of the present state, as in `RawObs`."""

    @abstractmethod
    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3] of the present state, as in `RawObs`."""

    def video_frame(self) -> np.ndarray:
        """uint8[h, w, 3], upright, for people to see; what the first camera sees."""
        return self.images()[0]

    def close(self) -> None:
        """Frees what the simulator holds, such as a GL context."""

    def run(
        self,
        state: SimState,
        actions: np.ndarray,
        frame_every: int = 0,
        look_every: int = 0,
        step: int = 0,
    ) -> ChunkResult:
        """Executes float32[t, e] actions from `state`; renders once, at the end.

        Stops early at success.

        Args:
            state: state to start from.
            actions: float32[t, e]; clipped to the robot's limits.
            frame_every: render a video frame after every n-th step, and after the one that
                succeeds; 0 for none.
            look_every: render an observation before every n-th step of the episode; 0 for none.
                The chunk's first step and its end are left out: they are rendered for the policy.
            step: number of control steps of the episode before this chunk.

        Raises:
            ValueError: actions are not finite or have another shape.
        """
        # All of them before the first step: a fault must not cost half a chunk.
        chunk = executable(actions, self.task.robot)
        self.load(state)
        recorded, success = _Recorded(), False
        for count, action in enumerate(chunk):
            # `step + count` is the step of the episode: looks do not depend on how it was chunked.
            if look_every and count and (step + count) % look_every == 0:
                recorded.looks.append(self.images())
                recorded.look_steps.append(count)
            recorded.proprio.append(self.proprio())
            recorded.actions.append(action)
            success = self.step(action)
            if frame_every and (success or (count + 1) % frame_every == 0):
                recorded.frames.append(self.video_frame())
            if success:
                break
        return self.boundary(recorded, success)

    def boundary(self, recorded: "_Recorded | None" = None, success: bool = False) -> ChunkResult:
        """The present state as the end of a chunk; renders unless the episode is over."""
        chunk, robot, obs = recorded or _Recorded(), self.task.robot, None
        if not success:
            obs = RawObs(self.images(), self.proprio(), self.task.instruction)
        return ChunkResult(
            state=self.save(),
            obs=obs,
            success=success,
            # Reshaped, so that a chunk without a step is [0, s] and [0, e].
            proprio=np.array(chunk.proprio, np.float32).reshape(-1, len(robot.state)),
            actions=np.array(chunk.actions, np.float32).reshape(-1, len(robot.actions)),
            frames=np.stack(chunk.frames) if chunk.frames else np.zeros((0, 0, 0, 3), np.uint8),
            looks=np.stack(chunk.looks) if chunk.looks else np.zeros((0, 0, 0, 0, 3), np.uint8),
            look_steps=np.array(chunk.look_steps, np.int32),
        )


def executable(actions: np.ndarray, robot: Robot) -> np.ndarray:
    """Checks actions and clips them to the robot's limits: float32[t, e].

    Raises:
        ValueError: they are not finite or have another shape.
    """
    actions = np.asarray(actions)
    width = len(robot.actions)
    if actions.ndim != 2 or actions.shape[1] != width or not np.isfinite(actions).all():
        raise ValueError(f"expected finite actions [t, {width}], got {actions.shape}")
    return robot.clip(actions).astype(np.float32)
