"""Sampler and updates of the published pi0, compiled for a machine that is not here.

python bench/compiled.py --machine h100|h100x8|v5e-8 [--cases NAME ...] [--uncast]

One row per program: memory of a device, kernels, bytes, collectives and the bound of `hlo_cost.py`;
beside them the ideal of `compiled_programs.py`. It needs no weights and no accelerator; what it
needs is in `machines.py`. Of a TPU's program not all collectives are found, and no products: its
compiler hides them in fusions of its own, and what counts there is the memory. `--uncast` samples
with float32 weights, as policies acted before 0.2.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import hlo
from hlo_cost import cost
from machines import MACHINES, Machine, described

GB = 1e9
EULER_STEPS = 10  # turns of the one loop whose number is no constant of the program
HEAD = ("program", "memory GB", "kernels", "GB moved", "collectives GB", "bound ms")


def measured(compiled: Any, machine: Machine) -> tuple[float, float, float, float, float]:
    """Memory [GB], kernels, bytes moved [GB], collectives [GB] and bound [ms] of one device."""
    found = compiled.memory_analysis()
    # Donated outputs lie in the buffers of arguments: counted once.
    fresh = found.output_size_in_bytes - found.alias_size_in_bytes
    memory = found.argument_size_in_bytes + fresh + found.temp_size_in_bytes
    program = hlo.parse(compiled.as_text())
    of = cost(program, machine.bandwidth, machine.peak, EULER_STEPS)
    return memory / GB, of.kernels, of.bytes / GB, of.collectives / GB, 1e3 * of.seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=tuple(MACHINES), required=True)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--uncast", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the texts of the programs")
    args = parser.parse_args()
    machine = MACHINES[args.machine]
    devices = described(machine)
    # After the machine is described: only then may jax be used.
    from compiled_programs import programs

    print(f"| {' | '.join(HEAD)} | ideal: collectives GB, ms |\n|{'---|' * (len(HEAD) + 1)}")
    for one in programs(devices, machine, uncast=args.uncast):
        if args.cases and one.name not in args.cases:
            continue
        start = time.monotonic()
        compiled = one.lower().compile()
        if args.keep:
            (args.keep / f"{args.machine}_{one.name}.hlo").write_text(compiled.as_text())
        memory, kernels, moved, collectives, bound = measured(compiled, machine)
        ideal = f"{one.ideal_collectives / GB:.1f}, {1e3 * one.ideal_seconds:.1f}"
        numbers = f"{memory:.1f} | {kernels:.0f} | {moved:.1f} | {collectives:.1f} | {bound:.1f}"
        seconds = time.monotonic() - start
        print(f"| {one.name} | {numbers} | {ideal} | <!-- {seconds:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
