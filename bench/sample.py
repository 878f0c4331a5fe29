"""Time of sampling action chunks: variants side by side in one run, and their ratios.

python bench/sample.py [--size small|pi0] [--batch 8] [--rounds 7]

(b) two cameras and three with the third masked    (c) guided and unguided
(f) batch sizes
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measure import SIZES, compare, device, windows

from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.policy import branches, sample
from pi0_jax.types import Batch

NUM_FLOW_STEPS = 10


def chunk_sampling(
    config: Pi0Config, params: Any, batch: Batch, guidance: float = 1.0
) -> Callable[[], Any]:
    """Returns a function that samples chunks for the same observations at each call."""
    size = len(batch.weight)
    shape = size, config.action_horizon, config.action_dim
    noise = np.random.default_rng(1).standard_normal(shape, np.float32)
    obs, noise = jax.device_put((batch.obs, noise))
    ids = branches(guidance)
    return lambda: sample(Pi0(config), ids, params, obs, noise, NUM_FLOW_STEPS, guidance)


def naive(config: Pi0Config, params: Any, batch: Batch) -> Callable[[], Any]:
    """Both branches as two separate samplings."""
    runs = [chunk_sampling(config, params, batch, guidance) for guidance in (0.0, 1.0)]
    return lambda: [run() for run in runs]


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    config = SIZES[args.size]()
    dtype = config.compute_dtype
    params = jax.jit(Pi0(config).init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    batch = windows(config, args.batch)
    print(f"{device()}, size {args.size}, {dtype}, batch {args.batch}, {NUM_FLOW_STEPS} flow steps")
    guided = {
        "unguided": chunk_sampling(config, params, batch),
        "guided, one pass": chunk_sampling(config, params, batch, 2.0),
        "guided, two samplings": naive(config, params, batch),
    }
    compare("(c) guidance", guided, args.rounds)
    masked = windows(config, args.batch, cameras=3, absent=1)
    cameras = {
        "two cameras": chunk_sampling(config, params, batch),
        "three, one masked": chunk_sampling(config, params, masked),
    }
    compare("(b) cameras", cameras, args.rounds)
    scaling = {
        f"batch {n}": chunk_sampling(config, params, windows(config, n))
        for n in (1, args.batch // 2, args.batch)
    }
    compare("(f) batch", scaling, args.rounds)


if __name__ == "__main__":
    main()
