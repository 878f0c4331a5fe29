"""Memory of an update at full size: by count, and by the compiler of a TPU that is not here.

python bench/memory.py                                # by count, in seconds
TPU_LIBRARY_PATH=.../libtpu.so python bench/memory.py --tpu v5p    # and compiled, in minutes

It needs no weights and no accelerator. The CPU's compiler is not used, because it counts float32
copies of bfloat16 weights. `pip install --no-deps --target DIR libtpu` installs the TPU's, which
compiles for a described topology.
"""

import argparse
import os
from dataclasses import dataclass
from typing import Any

from jax.experimental import topologies

from pi0_jax.model.config import pi0
from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import GB, Job, abstract_batch, compiled_bytes, count
from pi0_jax.training.optimizer import OptimizerConfig

# Slice type and its smallest topology; 16 GB and 95 GB per device.
TPUS = {"v5e": ("v5litepod-4", "v5e:2x2"), "v5p": ("v5p-8", "v5p:2x2x1")}


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    preset: str
    batch: int
    remat: str
    micro_batches: int = 1


CASES = (
    Case("expert_only", 4, "none"),
    Case("expert_only", 4, "full"),
    Case("lora", 4, "full"),
    Case("full", 32, "full"),
    Case("full", 32, "full", micro_batches=8),
)


def job(case: Case) -> Job:
    """The CFG update of the published pi0, two cameras, frozen leaves in bfloat16."""
    config = pi0()
    return Job(
        Pi0(config).shapes(),
        lambda remat: Cfg(0.1).loss(Pi0(config, remat), 1, "embedding"),
        OptimizerConfig(1e-4, 10, preset=case.preset),
        abstract_batch(config, 2, case.batch),
        Hardware(remat=case.remat, micro_batches=case.micro_batches, frozen_dtype="bfloat16"),
    )


def described(name: str) -> Any:
    """A device of a described TPU, which need not exist."""
    slice_type, topology = TPUS[name]
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": slice_type,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tpu", choices=sorted(TPUS))
    args = parser.parse_args()
    device = described(args.tpu) if args.tpu else None
    for case in CASES:
        print(f"{case}: {count(job(case))}")
        if device is not None:
            print(
                f"    {(compiled_bytes(job(case), device) or 0) / GB:.2f} GB compiled for {device}"
            )


if __name__ == "__main__":
    main()
