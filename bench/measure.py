"""What the benches share: sizes, inputs, and timing of variants side by side."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig, pi0
from pi0_jax.types import Batch, Observation


def small() -> Pi0Config:
    """pi0's proportions, so small that a CPU update takes about a second.

    144 prefix tokens and 17 suffix tokens.
    """
    return Pi0Config(
        vision=VisionConfig(
            image_size=112, patch_size=14, width=192, depth=5, mlp_dim=768, num_heads=4
        ),
        vlm=ExpertConfig(width=256, mlp_dim=2048),
        action=ExpertConfig(width=128, mlp_dim=512),
        depth=6,
        num_heads=4,
        num_kv_heads=1,
        head_dim=64,
        vocab_size=1024,
        action_horizon=16,
        prompt_length=16,
        compute_dtype="float32",
    )


SIZES = {"small": small, "pi0": pi0}


def windows(config: Pi0Config, size: int, cameras: int = 2, absent: int = 0) -> Batch:
    """Random training windows.

    Args:
        config: architecture.
        size: number of windows b.
        cameras: cameras c per window.
        absent: how many of the last cameras are masked, as openpi pads LIBERO.
    """
    rng = np.random.default_rng(0)
    pixels, length, horizon = (
        config.vision.image_size,
        config.prompt_length,
        config.action_horizon,
    )
    # bool[b, c]
    image_mask = np.broadcast_to(np.arange(cameras) < cameras - absent, (size, cameras))
    obs = Observation(
        images=rng.integers(256, size=(size, cameras, pixels, pixels, 3), dtype=np.uint8),
        image_mask=image_mask,
        state=rng.standard_normal((size, config.action_dim), np.float32),
        prompt=rng.integers(1, config.vocab_size, (size, length)).astype(np.int32),
        prompt_mask=np.ones((size, length), bool),
    )
    return Batch(
        obs=obs,
        actions=rng.standard_normal((size, horizon, config.action_dim), np.float32),
        action_mask=np.ones((size, horizon), bool),
        weight=np.ones(size, np.float32),
    )


@dataclass(frozen=True)
class Seconds:
    """The fastest round of a variant.

    Attributes:
        wall: wall time in seconds.
        cpu: CPU time of all threads of this process, in seconds. On a machine that others use too,
            it is the better measure of what the program costs.
    """

    wall: float
    cpu: float


def side_by_side(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
    """Times each variant; they take turns, so that a busy machine slows all of them equally."""
    # The first call compiles.
    for run in variants.values():
        jax.block_until_ready(run())
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Seconds(*map(min, zip(*times, strict=True))) for name, times in found.items()}


def compare(title: str, variants: dict[str, Callable[[], Any]], rounds: int) -> None:
    """Prints wall and CPU milliseconds of each variant, and their ratios to the first."""
    seconds = side_by_side(variants, rounds)
    first = next(iter(seconds.values()))
    print(f"\n{title}: wall ms, ratio, CPU ms, ratio", flush=True)
    for name, at in seconds.items():
        pairs = ((at.wall, first.wall), (at.cpu, first.cpu))
        columns = " | ".join(f"{x * 1e3:9.1f} | {x / y:6.3f}" for x, y in pairs)
        print(f"| {name:34s} | {columns} |", flush=True)


def device() -> str:
    """The name of the device, for a table's caption."""
    first = jax.devices()[0]
    return f"{first.platform} {first.device_kind} x{jax.device_count()}"
