"""Time of one update by objective beside the FLOPs that it counts, side by side in one run.

python bench/objectives.py [--preset full|expert_only|lora] [--batch 8] [--rounds 7]

The small size of bench/step.py; each objective has a training state of its own. Ratios are to
`filtered_bc`.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from flops import CHAIN, OBJECTIVES, objective_flops
from measure import device, side_by_side, small, windows
from step import Bench

from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.training.fit import ONE_DEVICE
from pi0_jax.training.optimizer import PRESETS, OptimizerConfig
from pi0_jax.types import Batch


def main() -> None:
    """Prints a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="full")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"{device()}, {vars(args)}\n")
    batch = with_chains(windows(small(), args.batch))
    updates = {str(one): update(one, args.preset, batch) for one in OBJECTIVES}
    seconds = side_by_side(updates, args.rounds)
    flops = [objective_flops(one, args.preset, small()) for one in OBJECTIVES]
    first = next(iter(seconds.values()))
    print("| objective | CPU ms | ratio | FLOPs, ratio |\n|---|---:|---:|---:|")
    for (name, at), count in zip(seconds.items(), flops, strict=True):
        ratios = f"{at.cpu / first.cpu:.3f} | {count / flops[0]:.3f}"
        print(f"| {name} | {1000 * at.cpu:.0f} | {ratios} |")


def with_chains(batch: Batch) -> Batch:
    """The windows with chains, which only `flow_pg` reads."""
    rng, (size, horizon, width) = np.random.default_rng(1), np.shape(batch.actions)
    steps, actions = CHAIN
    return replace(
        batch,
        chain=rng.standard_normal((size, steps + 1, horizon, width), np.float32),
        chain_log_prob=rng.standard_normal((size, steps, horizon, actions), np.float32),
    )


def update(objective: Objective, preset: str, batch: Batch) -> Callable[[], Any]:
    """A function that makes one update of a state of its own."""
    model = Pi0(small())
    params = jax.jit(model.init)(jax.random.key(0))
    bench = Bench(params, OptimizerConfig(1e-4, 10, preset=preset), ONE_DEVICE)
    return bench.step(objective.loss(model, 1, "embedding"), batch)


if __name__ == "__main__":
    main()
