"""Scripted demonstrators that see the simulator's state: data for a first policy.

They are deliberately of mixed quality. Each episode has one constant error of the grasp point,
is not tried again, and is kept when it fails: so imitation cannot surpass the demonstrator, and
there is something for reinforcement learning to find.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_jax.env.base import ChunkResult, Task
from pi0_jax.episode import Episode

OPEN, CLOSE = -1.0, 1.0
_FULL_MOVE = 0.05  # m, what a translation of 1 asks of OSC_POSE
_GAIN = 3.0  # fast, without overshoot
_ARRIVED = 0.008  # m
_CLOSE_STEPS = 8  # the fingers' whole way takes ten


@dataclass(frozen=True)
class DemonstratorConfig:
    """How well and how fast a demonstrator works.

    Attributes:
        offset_sigma: standard deviation [m] of the episode's error of the grasp point, in x and y.
        offset_sigma_z: the same for the height.
        action_noise: standard deviation of the noise on each translation.
        rotation_noise: the same for each rotation.
        speed: range of the largest translation of an action.
        hover: range of the height [m] above the object at which the arm turns downwards.
        render_every: control steps from one picture to the next.
    """

    offset_sigma: float = 0.014
    offset_sigma_z: float = 0.003
    action_noise: float = 0.05
    rotation_noise: float = 0.015
    speed: tuple[float, float] = (0.6, 1.0)
    hover: tuple[float, float] = (0.05, 0.09)
    render_every: int = 4


class DemonstratorSimulator(Protocol):
    """A simulator that lets a demonstrator see its state and act step by step."""

    task: Task

    def start(self, seed: int) -> ChunkResult:
        """As in `base.Simulator`."""
        ...

    def step(self, action: np.ndarray) -> bool:
        """One control step of float[e] within the limits; returns success."""
        ...

    def proprio(self) -> np.ndarray:
        """float32[s] of the present state, as in `RawObs`."""
        ...

    def images(self) -> np.ndarray:
        """uint8[c, h, w, 3] of the present state."""
        ...

    def demonstrator(
        self, style: DemonstratorConfig, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yields the next action, float64[e], looking at the simulator before each."""
        ...

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[e]: standard deviation of the noise on each dimension of an action."""
        ...


class ObjectPoses(Protocol):
    """What a demonstrator looks at."""

    def proprio(self) -> np.ndarray:
        """float32[8]; first the hand's position [m], world frame."""
        ...

    def object_position(self, name: str) -> np.ndarray:
        """float64[3], m: centre of an object, world frame."""
        ...


def demonstrate(simulator: DemonstratorSimulator, seed: int, style: DemonstratorConfig) -> Episode:
    """Job function: one episode of the simulator's demonstrator, with noise on its actions.

    It ends at success, with the demonstrator, or at the task's step limit. All randomness
    comes from `seed`. Images are taken before steps 0, n, 2n, ... with
    n = `style.render_every`: a chunk may start at each.
    """
    start = simulator.start(seed)
    # Not the stream that placed the objects: errors must not depend on positions.
    rng = np.random.default_rng([seed, 1])
    spread, robot = simulator.action_noise(style), simulator.task.robot
    images, state, actions, success = [], [], [], False
    for ideal in simulator.demonstrator(style, rng):
        if len(actions) % style.render_every == 0:
            images.append(simulator.images())
        action = robot.clip(ideal + rng.normal(0, spread)).astype(np.float32)
        state.append(simulator.proprio())
        actions.append(action)
        success = simulator.step(action)
        if success or len(actions) == simulator.task.max_steps:
            break
    image_steps = np.arange(0, len(actions), style.render_every, dtype=np.int32)
    return Episode(
        task=simulator.task.name,
        robot=robot,
        prompt=simulator.task.instruction,
        init_hash=start.state.hash,
        seed=seed,
        images=np.stack(images),
        image_steps=image_steps,
        state=np.stack(state),
        actions=np.stack(actions),
        chunk_start=np.isin(np.arange(len(actions)), image_steps),
        success=success,
        optimizer_step=-1,
    )


def lift(
    simulator: ObjectPoses, style: DemonstratorConfig, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Goes above the cube, down, closes the fingers, and goes up until the episode ends."""
    speed = rng.uniform(*style.speed)
    error = rng.normal(0, [style.offset_sigma, style.offset_sigma, style.offset_sigma_z])
    grasp = simulator.object_position("cube") + error
    above = grasp + np.array([0, 0, rng.uniform(*style.hover)])
    yield from _reach(simulator, above, OPEN, speed)
    yield from _reach(simulator, grasp, OPEN, speed)
    for _ in range(_CLOSE_STEPS):
        yield _towards(simulator, grasp, CLOSE, speed)
    yield from _reach(simulator, grasp + np.array([0, 0, 1.0]), CLOSE, speed)


def _reach(
    simulator: ObjectPoses, goal: np.ndarray, gripper: float, speed: float
) -> Iterator[np.ndarray]:
    """Moves the hand straight to `goal`, float64[3] m, until it has arrived."""
    while np.linalg.norm(goal - simulator.proprio()[:3]) > _ARRIVED:
        yield _towards(simulator, goal, gripper, speed)


def _towards(simulator: ObjectPoses, goal: np.ndarray, gripper: float, speed: float) -> np.ndarray:
    """float64[7]: one action towards `goal`, without turning."""
    return move_action(goal - simulator.proprio()[:3], gripper, speed)


def move_action(way: np.ndarray, gripper: float, speed: float) -> np.ndarray:
    """float64[7]: one action along `way`, float64[3] m, without turning."""
    move = np.clip(_GAIN * way / _FULL_MOVE, -speed, speed)
    return np.concatenate([move, np.zeros(3), [gripper]])
