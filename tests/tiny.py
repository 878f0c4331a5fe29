"""Small things to test with: a model of some thousand parameters, observations, episodes, tasks."""

import dataclasses

import jax
import numpy as np

from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import Episode
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.plain_values import replaced
from pi0_jax.policy.folder import PolicyFolder, PolicySpec
from pi0_jax.rl.config import RiptConfig, ript_config
from pi0_jax.rl.init_states import GroupConfig
from pi0_jax.types import Batch, Observation

# Two layers (a full one and the last), two key/value heads, four tokens an image.
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
MODEL = Pi0(CONFIG)

# The smallest loop: every key of config.rl but the optimizer.
RIPT = RiptConfig(
    iterations=2,
    updates_per_iteration=2,
    batch_size=8,
    groups=GroupConfig(group_size=3, groups_per_iteration=2, max_groups=6, first_seed=1000),
    time_samples=2,
    demo_fraction=0.25,
)


def ript(**changes) -> RiptConfig:
    """`RIPT` with some keys replaced; those of a section as a dictionary."""
    return ript_config(replaced(dataclasses.asdict(RIPT), changes))


def observation(batch: int, cameras: int = 2, seed: int = 0) -> Observation:
    """Random pictures and states; row i has a prompt of i + 3 real tokens."""
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


def episode(steps: int, looks: list[int], seed: int = 0, **changes) -> Episode:
    """`steps` random actions, pictures before the steps `looks`."""
    rng = np.random.default_rng(seed)
    values = {
        "task": "scripted",
        "prompt": "reach the dot",
        "init_hash": f"{seed:x}",
        "seed": seed,
        "images": rng.integers(256, size=(len(looks), 2, 16, 16, 3), dtype=np.uint8),
        "image_steps": np.array(looks, np.int32),
        "state": rng.uniform(-1, 1, (steps, 8)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "chunk_start": np.isin(np.arange(steps), looks),
        "success": False,
        "optimizer_step": 0,
    }
    return Episode(**values | changes)


def stats() -> NormStats:
    """Means and deviations that are neither 0 nor 1."""
    return NormStats(
        state=Stats(np.full(8, 0.1), np.full(8, 0.5)),
        actions=Stats(np.full(7, -0.1), np.full(7, 0.6)),
    )


def policy_folder(params: dict, execute_steps: int = 3) -> PolicyFolder:
    """A policy of `MODEL` for the scripted task."""
    spec = PolicySpec(CONFIG, ("fixed", "hand"), 7, execute_steps, tokenizer="bytes")
    return PolicyFolder(spec, jax.device_get(params), stats())


def transforms() -> Transforms:
    """Input and output of `policy_folder`."""
    return policy_folder({}).transforms
