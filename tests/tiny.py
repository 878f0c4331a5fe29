"""Small things to test with: a model of some thousand parameters, observations, episodes, tasks."""

import dataclasses

import jax
import numpy as np

from pi0_jax.data.normalize import NormStats
from pi0_jax.data.transforms import Transforms
from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.episode import Episode
from pi0_jax.model.pi0 import Pi0
from pi0_jax.plain_values import replaced
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.rl.config import RiptConfig, ript_config
from pi0_jax.rl.init_states import GroupConfig
from pi0_jax.testing import CONFIG, plain_stats

MODEL = Pi0(CONFIG)

# The smallest loop: every key of config.rl but the optimizer.
RIPT = RiptConfig(
    iterations=2,
    updates_per_iteration=2,
    batch_size=8,
    groups=GroupConfig(group_size=3, groups_per_iteration=2, max_groups=6, first_seed=1000),
    objective="cfg",
    time_samples=2,
    demo_fraction=0.25,
)


def ript(**changes) -> RiptConfig:
    """`RIPT` with some keys replaced; those of a section as a dictionary."""
    return ript_config(replaced(dataclasses.asdict(RIPT), changes))


def episode(steps: int, looks: list[int], seed: int = 0, **changes) -> Episode:
    """`steps` random actions, pictures before the steps `looks`."""
    rng = np.random.default_rng(seed)
    values = {
        "task": "scripted",
        "prompt": "reach the dot",
        "robot": SCRIPTED_ROBOT,
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
    return plain_stats(SCRIPTED_ROBOT)


def policy_folder(params: dict, execute_steps: int = 3) -> PolicyFolder:
    """A policy of `MODEL` for the scripted task."""
    spec = PolicySpec(CONFIG, SCRIPTED_ROBOT, execute_steps, tokenizer="bytes")
    return PolicyFolder(spec, jax.device_get(params), stats())


def transforms() -> Transforms:
    """Input and output of `policy_folder`."""
    return policy_folder({}).transforms
