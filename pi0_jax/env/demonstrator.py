"""Scripted demonstrators that see the simulator's state: data for a first policy.

They are deliberately of mixed quality. Each episode has one constant error of the grasp point, has
no second try, and is kept when it fails. So imitation cannot surpass the demonstrator, and
reinforcement learning has something to find.

Axis letters: t control step, r rendered step, s state dimension, e action dimension, c camera,
h height, w width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from pi0_jax.env.base import ChunkResult, Task
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges


@dataclass(frozen=True)
class DemonstratorConfig:
    """How well and how fast a demonstrator works.

    Attributes:
        offset_sigma: standard deviation [m] of an episode's error of the grasp point, in x and y.
        offset_sigma_z: the same [m] for the height.
        action_noise: standard deviation of the noise on each translation of an action.
        rotation_noise: the same for each rotation.
        speed: range (low, high) of an episode's largest translation per action.
        hover: range of the height [m] above the object from which the hand moves straight down.
        render_every: control steps from one picture to the next.
    """

    offset_sigma: Annotated[float, "[0, 1]"] = 0.014
    offset_sigma_z: Annotated[float, "[0, 1]"] = 0.003
    action_noise: Annotated[float, "[0, 10]"] = 0.05
    rotation_noise: Annotated[float, "[0, 10]"] = 0.015
    speed: Annotated[tuple[float, float], "(0, 10]"] = (0.6, 1.0)
    hover: Annotated[tuple[float, float], "[0, 1]"] = (0.05, 0.09)
    render_every: Annotated[int, "[1, 1e6]"] = 4

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("task.demonstrator", self)
        for name in ("speed", "hover"):
            low, high = getattr(self, name)
            if low > high:
                raise InputError(
                    f"task.demonstrator.{name} must be (low, high), got ({low}, {high})"
                )


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
        """Yields the next action, float64[e], each from the simulator's present state."""
        ...

    def action_noise(self, style: DemonstratorConfig) -> np.ndarray:
        """float64[e]: standard deviation of the noise on each dimension of an action."""
        ...


def demonstrate(simulator: DemonstratorSimulator, seed: int, style: DemonstratorConfig) -> Episode:
    """Job function: one episode of the simulator's demonstrator, with noise on its actions.

    The episode ends at success, when the demonstrator has no more actions, or at the task's step
    limit. All randomness comes from `seed`. Images are rendered before the steps 0, n, 2n, ...
    with n = `style.render_every`: a training window can start at each.

    Raises:
        RuntimeError: the demonstrator does nothing from this state.
    """
    start = simulator.start(seed)
    # Another stream than the one that placed the objects: errors must not depend on positions.
    rng = np.random.default_rng([seed, 1])
    spread, robot = simulator.action_noise(style), simulator.task.robot
    images, state, actions, success = [], [], [], False
    for ideal in simulator.demonstrator(style, rng):
        if len(actions) % style.render_every == 0:
            images.append(simulator.images())
        # The noisy action is what the simulator executes and what the episode records.
        action = robot.clip(ideal + rng.normal(0, spread)).astype(np.float32)
        state.append(simulator.proprio())
        actions.append(action)
        success = simulator.step(action)
        if success or len(actions) == simulator.task.max_steps:
            break
    if not actions:
        raise RuntimeError(
            f"the demonstrator does nothing from initial state {seed}: the goal may hold there "
            "already, and `start` should not give such states"
        )
    image_steps = np.arange(0, len(actions), style.render_every, dtype=np.int32)
    return Episode(
        task=simulator.task.name,
        robot=robot,
        prompt=simulator.task.instruction,
        init_hash=start.state.hash,
        seed=seed,
        images=np.stack(images),  # [r, c, h, w, 3]
        image_steps=image_steps,
        state=np.stack(state),
        actions=np.stack(actions),
        chunk_start=np.isin(np.arange(len(actions)), image_steps),
        success=success,
        optimizer_step=-1,
    )
