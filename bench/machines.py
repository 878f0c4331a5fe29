"""Machines that programs are compiled for without having them: numbers, and described devices.

Import it before any other use of jax: the CUDA compiler must be told not to look for a GPU.

    h100, h100x8   pip install "jax[cuda12]==0.10.2" in an environment of its own (4.9 GB)
    v5e-8          pip install --no-deps --target DIR libtpu; TPU_LIBRARY_PATH=DIR/libtpu/libtpu.so
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """A machine of equal devices; numbers are those of data sheets, of one device.

    Attributes:
        platform: "cuda" or "tpu".
        devices: how many.
        bandwidth: of the memory [bytes/s].
        peak: of dense bfloat16 products [FLOP/s].
        memory: [bytes].
        link: between devices, one direction [bytes/s].
        topology: what the compiler calls it.
        kind: of a TPU, its slice type.
    """

    platform: str
    devices: int
    bandwidth: float
    peak: float
    memory: float
    link: float
    topology: str
    kind: str = ""


_H100 = 3.35e12, 989e12, 80e9, 450e9  # bandwidth, peak, memory, link
MACHINES = {
    "h100": Machine("cuda", 1, *_H100, "1x1x1"),
    "h100x8": Machine("cuda", 8, *_H100, "1x1x8"),
    "v5e-8": Machine("tpu", 8, 819e9, 197e12, 16e9, 200e9, topology="v5e:2x4", kind="v5litepod-8"),
}


def described(machine: Machine) -> list[Any]:
    """Its devices, which need not exist.

    Raises:
        SystemExit: the compiler is not installed; the message says how it would be.
    """
    found = _cuda_devices(machine) if machine.platform == "cuda" else _tpu_devices(machine)
    return list(found)


def _cuda_devices(machine: Machine) -> Any:
    spec = find_spec("jax_plugins") and find_spec("jax_plugins.xla_cuda12")
    if spec is None:
        raise SystemExit('no CUDA compiler: pip install "jax[cuda12]==0.10.2" (4.9 GB)')
    packages = Path(str(spec.origin)).parents[2]
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # Without a GPU no kernel can be tried out, and the default tiles of Triton do not fit.
        "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false "
        f"--xla_gpu_cuda_data_dir={packages / 'nvidia/cuda_nvcc'}",
    }
    from jax._src import xla_bridge
    from jax.experimental import topologies

    known = xla_bridge.canonicalize_platform

    def canonical(platform: str) -> str:
        """The platform's own name, also where no GPU is at hand (jax issue 23971)."""
        return "cuda" if platform in ("gpu", "cuda") else known(platform)

    xla_bridge.canonicalize_platform = canonical
    text = (Path(__file__).parent / "machines/h100.txtpb").read_text()
    return topologies.get_topology_desc(
        platform="cuda", target_config=text, topology=machine.topology
    ).devices


def _tpu_devices(machine: Machine) -> Any:
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": machine.kind,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=machine.topology).devices
