"""What the conversion tests share: where the reference data is, and tiny checkpoints."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from pi0_jax.convert.commands.flax_to_torch import export
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import leaf_shapes
from pi0_jax.data.normalize import NormStats, compute_stats
from pi0_jax.io.digests import DIGESTS
from pi0_jax.io.orbax_tree import nest
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.policy.folder import PolicyFolder, save_policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import Robot, numbered

GOLDENS = Path(__file__).resolve().parent / "goldens"
REFERENCE = GOLDENS / "reference"
IO = GOLDENS / "tiny_pi0_io.npz"
NORM_STATS = GOLDENS / "tiny_pi0/assets/physical-intelligence/libero/norm_stats.json"
TorchGolden = Callable[[str], Path]
"""The fixture `torch_golden`: a folder of tests/goldens in a PyTorch layout, by its name."""

TINY = Pi0Config(
    vision=VisionConfig(image_size=28, patch_size=14, width=12, depth=2, mlp_dim=20, num_heads=3),
    vlm=ExpertConfig(width=16, mlp_dim=24),
    action=ExpertConfig(width=8, mlp_dim=20),
    depth=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    vocab_size=40,
    action_dim=5,
    action_horizon=7,
    prompt_length=6,
    compute_dtype="float32",
)
"""Nothing divides what it need not: 4 heads of 6 are 24, the widths are 16 and 8."""


ROBOT = Robot("test", ("front", "wrist"), numbered("state", 4), numbered("action", 3))


def random_params(config: Pi0Config, seed: int = 0) -> dict[str, Any]:
    """float32 parameters without a single zero, `cond_embed` zero."""
    rng = np.random.default_rng(seed)
    flat = {
        path: rng.normal(0, 0.2, shape).astype(np.float32)
        for path, shape in leaf_shapes(config).items()
    }
    flat["cond_embed"] = np.zeros((2, config.action.width), np.float32)
    return nest(flat)


def random_stats(state: int = 4, actions: int = 3) -> NormStats:
    """Statistics of a robot with that many dimensions."""
    rng = np.random.default_rng(1)
    return NormStats(*(compute_stats(rng.normal(size=(50, d))) for d in (state, actions)))


def make_policy(path: Path, config: Pi0Config = TINY, **spec: Any) -> PolicyFolder:
    """Writes a policy folder with random parameters."""
    described = PolicySpec(
        model=config,
        robot=ROBOT,
        execute_steps=min(4, config.action_horizon),
        asset_id="robot",
    )
    policy = PolicyFolder(
        dataclasses.replace(described, **spec), random_params(config), random_stats()
    )
    save_policy(path, policy, {"made_by": "a test"})
    return policy


def make_torch(folder: Path, layout: str, config: Pi0Config = TINY) -> Path:
    """Writes a random checkpoint in a PyTorch layout, as if not by us; the folder."""
    make_policy(folder / "policy", config)
    export(OrbaxSource(folder / "policy"), folder / layout, layout, overwrite=False)
    (folder / layout / DIGESTS).unlink()
    return folder / layout


def put_together(name: str, folder: Path) -> Path:
    """The checkpoint `GOLDENS / name`: as it lies there, or written into `folder` from its parts.

    All PyTorch layouts hold the same values, so that only openpi's are stored. For each other
    layout `same_as_openpi.json` says which of them the library wrote under which name.
    """
    golden = GOLDENS / name
    table, own = golden / "same_as_openpi.json", golden / "own.safetensors"
    if not table.is_file():
        return golden
    stored = load_file(GOLDENS / "tiny_pi0_torch_openpi/model.safetensors")
    described = json.loads(table.read_text())
    tensors = {key: stored[same] for key, same in described["tensors"].items()}
    if own.is_file():
        tensors |= load_file(own)
    shutil.copytree(golden, folder, ignore=shutil.ignore_patterns(table.name, own.name))
    save_file(tensors, folder / "model.safetensors", described["metadata"])
    return folder
