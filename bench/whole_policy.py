"""A policy of pi0's size on this machine's CPU: memory and time to load it, and to act.

python bench/whole_policy.py FOLDER [--layers 18]

FOLDER gets a policy with random bfloat16 weights (7.2 GB with all layers), and is used again where
it exists. Loading and acting run in a process each: the peak of one would hide the other's. Linux.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from pi0_jax import Policy, testing
from pi0_jax.model.config import Pi0Config, pi0
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import save_policy
from pi0_jax.types import path_name

_SPREAD = 0.02
_IN_FLOAT32 = ("scale", "bias", "cond_embed")


def main() -> None:
    """Makes the folder, and measures in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=18, help="of both experts; 18 are pi0's")
    parser.add_argument("--measure", choices=("load", "act"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.folder, act=args.measure == "act")
        return
    if not args.folder.exists():
        make(args.folder, replace(pi0(), depth=args.layers))
    for what in ("load", "act"):
        command = (sys.executable, __file__, str(args.folder), f"--measure={what}")
        subprocess.run(command, check=True)


def make(folder: Path, config: Pi0Config) -> None:
    """Writes a policy of the tiny policy's robot with random weights."""
    some = np.random.default_rng(0).normal(0, _SPREAD, 1_000_003).astype(ml_dtypes.bfloat16)

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if any(word in path_name(path) for word in _IN_FLOAT32):
            return np.zeros(shape.shape, np.float32)
        return np.resize(some, shape.shape)

    shapes = Pi0(config).shapes()
    policy = testing.tiny_policy()
    spec = replace(policy.spec, model=config)
    params = jax.tree_util.tree_map_with_path(leaf, shapes)
    save_policy(folder, replace(policy, spec=spec, params=params, path=None), {"made_by": __file__})


def measure(folder: Path, *, act: bool) -> None:
    """Prints one line."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    before, start = _peak(), time.monotonic()
    policy = Policy.load(folder)
    seconds, grown = time.monotonic() - start, _peak() - before
    said = f"load: {seconds:.1f} s, {grown / 1e9:.2f} GB of {size / 1e9:.2f} ({grown / size:.2f}x)"
    if act:
        seen = testing.raw_obs(policy.robot, policy.model.config.vision.image_size)
        clock = [time.monotonic()]
        for _ in range(2):
            policy.act([seen])
            clock.append(time.monotonic())
        first, later = np.diff(clock)
        said = (
            f"act: first {first:.1f} s, then {later:.1f} s per chunk, {_peak() / 1e9:.2f} GB in all"
        )
    print(said, flush=True)


def _peak() -> int:
    """Most memory of this process so far, bytes."""
    # Not getrusage's: that of a new process begins with its parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
