"""Small things to try code with: a model of some thousand parameters, observations, windows.

    folder = testing.tiny_policy()
    actions = Policy.from_folder(folder).act([testing.raw_obs(folder.spec.robot)])

Axis letters: b batch, c camera.
"""

from typing import Any

import jax
import numpy as np

from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.episode import RawObs
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import Robot
from pi0_jax.types import Batch, Observation

CONFIG = Pi0Config(
    vision=VisionConfig(image_size=16, patch_size=8, width=8, depth=1, mlp_dim=16, num_heads=2),
    vlm=ExpertConfig(width=16, mlp_dim=24),
    action=ExpertConfig(width=12, mlp_dim=16),
    depth=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    vocab_size=258,
    action_dim=8,
    action_horizon=4,
    prompt_length=16,
    compute_dtype="float32",
)
"""Two layers (a full one and the last), two key/value heads, four tokens per image."""


def tiny_policy(robot: Robot = SCRIPTED_ROBOT, seed: int = 0) -> PolicyFolder:
    """A policy of `CONFIG` with random parameters, none of them zero, as after training.

    Args:
        robot: with at most 8 actions and 8 values of state.
        seed: of the parameters.

    Raises:
        InputError: the robot has more dimensions than the model takes.
    """
    spec = PolicySpec(CONFIG, robot, execute_steps=3, tokenizer="bytes")
    return PolicyFolder(spec, random_params(seed), plain_stats(robot))


def random_params(seed: int = 0, config: Pi0Config = CONFIG) -> dict[str, Any]:
    """float32 host arrays of a model, none of them zero."""
    rng = np.random.default_rng(seed)
    shapes = Pi0(config).shapes()
    return jax.tree.map(lambda x: (0.3 * rng.standard_normal(x.shape)).astype(x.dtype), shapes)


def plain_stats(robot: Robot) -> NormStats:
    """Means and deviations that are neither 0 nor 1, as wide as the robot."""
    state, actions = len(robot.state), len(robot.actions)
    return NormStats(
        state=Stats(np.full(state, 0.1), np.full(state, 0.5)),
        actions=Stats(np.full(actions, -0.1), np.full(actions, 0.6)),
    )


def raw_obs(robot: Robot = SCRIPTED_ROBOT, size: int = 16, seed: int = 0) -> RawObs:
    """A random observation of a robot.

    Args:
        robot: whose cameras and state it has.
        size: height and width [px] of the pictures.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(len(robot.cameras), size, size, 3), dtype=np.uint8)
    state = rng.uniform(-1, 1, len(robot.state)).astype(np.float32)
    return RawObs(images, state, "reach the dot")


def observation(batch: int, cameras: int = 2, seed: int = 0) -> Observation:
    """Random pictures and states for `CONFIG`; row i has a prompt of i + 3 real tokens."""
    rng = np.random.default_rng(seed)
    size, length = CONFIG.vision.image_size, CONFIG.prompt_length
    prompt_mask = np.arange(length) < np.arange(3, 3 + batch)[:, None] % length
    return Observation(
        images=rng.integers(256, size=(batch, cameras, size, size, 3), dtype=np.uint8),
        image_mask=np.ones((batch, cameras), bool),
        state=rng.standard_normal((batch, CONFIG.action_dim), np.float32),
        prompt=np.where(prompt_mask, rng.integers(1, 258, (batch, length)), 0).astype(np.int32),
        prompt_mask=prompt_mask,
    )


def batch(size: int, seed: int = 0) -> Batch:
    """Random windows; row i has i + 1 real steps (at most all), weights 0, 0.5, 1, 0, ..."""
    horizon = CONFIG.action_horizon
    rng = np.random.default_rng(seed + 1)
    return Batch(
        obs=observation(size, seed=seed),
        actions=rng.standard_normal((size, horizon, CONFIG.action_dim), np.float32),
        action_mask=np.arange(horizon) <= np.arange(size)[:, None],
        weight=(np.arange(size) % 3 / 2).astype(np.float32),
    )
