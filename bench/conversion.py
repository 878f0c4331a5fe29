"""Memory and time of a conversion at full size (3.24 billion parameters, bfloat16).

python bench/conversion.py [--folder TMP]     from the root of the repository

Makes a random checkpoint in openpi's PyTorch layout, sharded as on the hub, in a temporary folder;
copies it, converts it to a policy folder and back; prints peak RSS, seconds, and the ratio to the
copy. Needs 20 GB of disk while it runs; everything is deleted at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from pi0_jax.convert.commands.flax_to_torch import keys
from pi0_jax.convert.files.safetensors_file import SafetensorsWriter
from pi0_jax.convert.keys.architecture import axis_sizes
from pi0_jax.convert.keys.keymap import OPENPI, shape
from pi0_jax.convert.sources.source import tasks
from pi0_jax.data.normalize import NormStats, compute_stats, save_norm_stats
from pi0_jax.model.config import Pi0Config, pi0

SHARD_BYTES = 5 * 10**9
_POOL = 2**25
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Measured:
    """One measured step.

    Attributes:
        name: name of the step.
        seconds: wall time.
        peak: peak RSS of the step's process, in bytes; 0 for a step in this process.
    """

    name: str
    seconds: float
    peak: int = 0


def tensors(config: Pi0Config) -> Shapes:
    """Key and shape of every tensor of an openpi PyTorch file."""
    sizes = axis_sizes(config)
    found = {
        key: shape(tensor.axes, sizes)
        for leaf, i in tasks(config)
        for tensor in leaf.tensors
        for key in keys(OPENPI, leaf, tensor, i or 0)
    }
    return found | {next(iter(OPENPI.unused)): (config.vocab_size, config.action.width)}


def make_checkpoint(folder: Path, config: Pi0Config) -> int:
    """Writes shards, their index and statistics; returns the bytes of the shards."""
    shards: list[Shapes] = [{}]
    for key, size in tensors(config).items():
        if 2 * sum(int(np.prod(s)) for s in [*shards[-1].values(), size]) > SHARD_BYTES:
            shards.append({})
        shards[-1][key] = size
    rng = np.random.default_rng(0)
    pool = rng.normal(0, 0.02, _POOL).astype(ml_dtypes.bfloat16)
    folder.mkdir()
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(shard, name)
        announced = {key: ("bfloat16", size) for key, size in shard.items()}
        with SafetensorsWriter(folder / name, announced, {}) as writer:
            for key, size in shard.items():
                # The same random numbers repeated: no step compresses them, so it is no help.
                writer.write(key, np.resize(pool, size))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    state, actions = (compute_stats(rng.normal(size=(100, d))) for d in (8, 7))
    stats = NormStats(state, actions)
    save_norm_stats(folder / "assets" / "bench" / "norm_stats.json", stats)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def copy(source: Path, destination: Path) -> Measured:
    """A plain copy of the shards."""
    start = time.monotonic()
    shutil.copytree(source, destination)
    return Measured("plain copy", time.monotonic() - start)


def command(name: str, *arguments: str) -> Measured:
    """Runs a converter in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", name, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed with status {os.waitstatus_to_exitcode(status)}")
    return Measured(name, time.monotonic() - start, usage.ru_maxrss * 1024)


def measure(config: Pi0Config, folder: Path) -> list[Measured]:
    """Measures a copy and the conversion both ways, in an empty folder."""
    source, policy, back = folder / "source", folder / "policy", folder / "back"
    size = make_checkpoint(source, config)
    print(f"{size:,} bytes of bfloat16 in {len(list(source.glob('*.safetensors')))} shards")
    copied = copy(source, folder / "copy")
    shutil.rmtree(folder / "copy")
    there = command("convert.torch_to_flax", str(source), str(policy))
    shutil.rmtree(source)
    again = command("convert.flax_to_torch", str(policy), str(back), "--layout", "openpi")
    return [copied, there, again]


def report(rows: Sequence[Measured]) -> str:
    """The table, each row with its ratio to the plain copy."""
    lines = [f"{'':<24}{'seconds':>9}{'x copy':>8}{'peak RSS':>11}"]
    for row in rows:
        ratio, peak = row.seconds / rows[0].seconds, f"{row.peak / 1e9:.2f} GB" if row.peak else ""
        lines.append(f"{row.name:<24}{row.seconds:>9.1f}{ratio:>8.2f}{peak:>11}")
    return "\n".join(lines)


def main() -> None:
    """Measures at full size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to make the temporary folder")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        print(report(measure(pi0(), Path(folder))))


if __name__ == "__main__":
    main()
