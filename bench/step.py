"""Time and memory of one update: variants side by side in one run, and their ratios.

python bench/step.py [--size small|pi0] [--batch 8] [--rounds 7] [--preset full] [--remat none]

(a) plain flow matching, shared-prefix CFG, naive two-pass CFG
(b) two cameras and three with the third masked
(d) 1, 2, 4 time samples    (e) remat choices    (f) batch sizes
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from measure import SIZES, compare, device, windows
from naive import joint_loss, two_pass_loss

from pi0_jax.model.layer_scan import REMATS
from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.training.fit import ONE_DEVICE, make_init_and_update
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Job, compiled_bytes
from pi0_jax.training.optimizer import PRESETS, OptimizerConfig
from pi0_jax.training.step import SampledLoss, TrainState
from pi0_jax.training.supervised import flow_matching_loss
from pi0_jax.types import Batch


@dataclass
class Bench:
    """One training state that all variants use and update, so that it is in memory once.

    Attributes:
        params: parameters to start from.
        optimizer: settings of the optimizer.
        hardware: settings of the device layout.
        state: the training state; None before the first update.
    """

    params: Any
    optimizer: OptimizerConfig
    hardware: Hardware
    state: TrainState | None = None

    def step(self, loss: SampledLoss, batch: Batch) -> Callable[[], Any]:
        """Returns a function that makes one update of the batch, with the state donated."""
        init_fn, step = make_init_and_update(self.params, loss, self.optimizer, 1000, self.hardware)
        jitted, key = jax.jit(step, donate_argnums=0), jax.random.key(1)
        placed = jax.device_put(batch)
        if self.state is None:
            self.state = init_fn(self.params)

        def run() -> Any:
            self.state, metrics = jitted(self.state, placed, key)
            return metrics

        return run

    def megabytes(self, loss: SampledLoss, batch: Batch) -> float:
        """Memory of the compiled update, in 10^6 bytes."""
        job = Job(self.params, lambda remat: loss, self.optimizer, batch, self.hardware)
        return (compiled_bytes(job) or 0) / 1e6


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="full")
    parser.add_argument("--remat", choices=REMATS, default="none", help="of all tables except (e)")
    return parser.parse_args()


def main() -> None:
    """Prints all tables."""
    args = arguments()
    config, rounds = SIZES[args.size](), args.rounds
    model = Pi0(config, args.remat)
    params = jax.jit(model.init)(jax.random.key(0))
    batch = windows(config, args.batch)
    bench = Bench(params, OptimizerConfig(1e-4, 10, preset=args.preset), ONE_DEVICE)
    print(f"{device()}, {config.compute_dtype}, {vars(args)}")

    cfg = Cfg(0.1).loss(model, 1, "embedding")
    losses = {
        "plain": flow_matching_loss(model, 1),
        "CFG, shared prefix": cfg,
        "CFG, naive two passes": two_pass_loss(model, 0.1),
    }
    steps = {name: bench.step(loss, batch) for name, loss in losses.items()}
    compare("(a) branches", steps, rounds)
    masked = windows(config, args.batch, cameras=3, absent=1)
    formulations = {
        "ours, plain": bench.step(flow_matching_loss(model, 1), batch),
        "joint attention, whole last layer": bench.step(joint_loss(model), batch),
        "the same, three cameras": bench.step(joint_loss(model), masked),
    }
    compare("plain flow matching as openpi formulates it", formulations, rounds)
    cameras = {"two cameras": bench.step(cfg, batch), "three, one masked": bench.step(cfg, masked)}
    compare("(b) cameras", cameras, rounds)
    # Noise and time are sampled n times per window; all samples share the prefix.
    draws = {n: Cfg(0.1).loss(model, n, "embedding") for n in (1, 2, 4)}
    steps = {f"{n} time samples": bench.step(loss, batch) for n, loss in draws.items()}
    compare("(d) noise/time samples", steps, rounds)
    remats = {name: Cfg(0.1).loss(Pi0(config, name), 1, "embedding") for name in REMATS}
    steps = {name: bench.step(loss, batch) for name, loss in remats.items()}
    compare("(e) remat", steps, rounds)
    for name, loss in remats.items():
        print(f"| {name:34s} | {bench.megabytes(loss, batch):9.0f} MB |")
    sizes = [max(1, args.batch // part) for part in (8, 4, 2, 1)]
    steps = {f"batch {n}": bench.step(cfg, windows(config, n)) for n in sizes}
    compare("(f) batch", steps, rounds)


if __name__ == "__main__":
    main()
