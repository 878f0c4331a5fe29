"""What a checkpoint weighs, and how long training waits for it: whole and at once, or as it is now.

python bench/checkpoints.py [--folder TMP] [--layers 2] [--seconds 5] [--saves 3]

First bytes at full size, from shapes. Then, in one process, a network of half pi0's width whose
"updates" are matrix products on all cores: seconds that training waits per save, seconds that a
round of updates and a save takes, and the highest memory. The disk is that of --folder.
"""

import argparse
import dataclasses
import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.model.config import ExpertConfig, Pi0Config, pi0
from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import make_init_and_update
from pi0_jax.training.frozen import NOTHING, Frozen
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.saver import Saver
from pi0_jax.training.step import TrainState, split

_GB = 1e9
_PRESETS = ("expert_only", "lora", "full")
_SIDE = 1024  # of the matrices of an "update"


class Way(NamedTuple):
    """A way to save: what is left out, and whether training goes on meanwhile."""

    name: str
    frozen: Frozen
    background: bool


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of updates between two saves")
    parser.add_argument("--saves", type=int, default=3)
    args = parser.parse_args()
    by_shapes()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        measured(Path(name), smaller(pi0(), args.layers), args.seconds, args.saves)


def by_shapes() -> None:
    """Bytes of a checkpoint of the published pi0."""
    print(
        "| pi0, float32 | whole [GB] | trained only [GB] | of it moments | with a moving average |"
    )
    print("|---|---:|---:|---:|---:|")
    for preset in _PRESETS:
        state, frozen = shapes(pi0(), preset)
        averaged, _ = shapes(pi0(), preset, ema_decay=0.99)
        moments = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.opt_state))
        sizes = (
            size(state, NOTHING), size(state, frozen), moments, size(averaged, frozen)
        )  # fmt: skip
        print(f"| {preset} | " + " | ".join(f"{one / _GB:.2f}" for one in sizes) + " |")


def shapes(config: Pi0Config, preset: str, ema_decay: float = 0.0) -> tuple[TrainState, Frozen]:
    """The state of a training and what its checkpoints leave out, as shapes."""
    params = Pi0(config).shapes()
    return jax.eval_shape(initial(config, params, preset, ema_decay), params), left(params, preset)


def initial(
    config: Pi0Config, params: dict, preset: str, ema_decay: float = 0.0
) -> Callable[[dict], TrainState]:
    """Parameters -> first state."""
    optimizer = OptimizerConfig(1e-4, 10, preset=preset, ema_decay=ema_decay)
    loss = Cfg(0.1).loss(Pi0(config), 1, "embedding")
    return make_init_and_update(params, loss, optimizer, 10, Hardware())[0]


def left(params: dict, preset: str) -> Frozen:
    """The frozen leaves."""
    return Frozen(split(params, OptimizerConfig(1e-4, 10, preset=preset).all_rules)[1])


def size(state: TrainState, frozen: Frozen) -> int:
    """Bytes of a checkpoint."""
    kept = checkpoint.leaves_of(state, frozen).values()
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept)


def measured(folder: Path, config: Pi0Config, seconds: float, saves: int) -> None:
    """Training in three ways, one after the other."""
    # Not random: nothing is compressed, so the values have no effect.
    params = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, leaf.dtype),
        Pi0(config).shapes(),
    )
    state = initial(config, params, "expert_only")(params)
    frozen = left(params, "expert_only")
    work, rounds = products(seconds)
    print(f"\nload {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores; {rounds} products per round")
    heads = ("waits per save [s]", "round [s]", "CPU per round [s]", "peak above before [GB]")
    print(f"| checkpoint | GB | {' | '.join(heads)} |")
    print("|---|---:|---:|---:|---:|---:|")
    # By order of memory, whose peak never falls.
    ways = (
        Way("none", frozen, background=False),
        Way("trained only, training waits", frozen, background=False),
        Way("trained only, in the background", frozen, background=True),
        Way("whole, training waits (as before)", NOTHING, background=False),
    )
    for way in ways:
        before, waits = peak(), []
        start, cpu = time.monotonic(), time.process_time()
        with Saver(folder / way.name.replace(" ", "_"), 2, way.frozen) as saver:
            for step in range(saves):
                state = work(state)
                begun = time.monotonic()
                if way.background:
                    saver.save(step, state, {})
                elif way.name != "none":
                    checkpoint.save(saver.folder, step, state, {}, frozen=way.frozen)
                waits.append(time.monotonic() - begun)
        took, cpu = (
            (now - t) / saves for now, t in ((time.monotonic(), start), (time.process_time(), cpu))
        )
        bytes_ = 0 if way.name == "none" else size(state, way.frozen)
        print(
            f"| {way.name} | {bytes_ / _GB:.2f} | {sum(waits) / saves:.2f} | {took:.2f} | "
            f"{cpu:.2f} | {peak() - before:.2f} |",
            flush=True,
        )


def products(seconds: float) -> tuple[Callable[[TrainState], TrainState], int]:
    """An "update" of about so many seconds, which takes over the arrays of its state."""

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=1)
    def update(state: TrainState, count: int) -> TrainState:
        matrix = jnp.full((_SIDE, _SIDE), 1.0 / _SIDE) + state.step
        matrix = jax.lax.fori_loop(0, count, lambda _, x: x @ x / _SIDE, matrix)
        # The compiler cannot know that this is never so, and must multiply.
        return dataclasses.replace(state, step=state.step + jnp.where(matrix[0, 0] > 1e30, 2, 1))

    def run(state: TrainState, count: int) -> float:
        start = time.monotonic()
        jax.block_until_ready(update(state, count))
        return time.monotonic() - start

    small = lambda: TrainState(jnp.zeros((), jnp.int32), {}, ())  # noqa: E731
    run(small(), 10)
    # The least of three, for other programs may be running.
    count = max(1, int(seconds / min(run(small(), 10) for _ in range(3)) * 10))
    return lambda state: jax.block_until_ready(update(state, count)), count


def peak() -> float:
    """Highest memory of this process so far [10^9 bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GB


def smaller(config: Pi0Config, layers: int) -> Pi0Config:
    """Half the width, few words and images; the depth is free."""
    vision = dataclasses.replace(config.vision, depth=2)
    vlm = ExpertConfig(1024, 8192)
    return dataclasses.replace(config, depth=layers, vlm=vlm, vocab_size=4096, vision=vision)


if __name__ == "__main__":
    main()
