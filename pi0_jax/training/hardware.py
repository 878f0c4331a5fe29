"""How an update is laid out on the devices at hand: a choice that changes no result."""

from dataclasses import dataclass
from typing import Annotated

import jax

from pi0_jax.errors import InputError
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.ranges import check_ranges

_DTYPES = ("", "bfloat16", "float32")


@dataclass(frozen=True)
class Hardware:
    """`config.hardware`.

    Attributes:
        data: number of copies of the parameters (mesh axis `data`).
        fsdp: number of parts into which parameters and optimizer state are cut (mesh axis
            `fsdp`). `data * fsdp` is the number of devices, and the batch is cut along both.
        micro_batches: passes whose gradients one update adds up.
        remat: what the backward pass computes again instead of keeping it: "none", "mlp" or
            "full" (`model/layer_scan.py`).
        attention: "einsum", or "fused": the kernel of `jax.nn.dot_product_attention`.
        frozen_dtype: dtype of frozen leaves: "bfloat16", "float32", or "" to keep theirs.
        memory_gb: memory of a device in 10^9 bytes, to refuse what cannot fit; 0 asks the device.
    """

    data: Annotated[int, "[1, 1e5]"] = 1
    fsdp: Annotated[int, "[1, 1e5]"] = 1
    micro_batches: Annotated[int, "[1, 1e5]"] = 1
    remat: str = "none"
    attention: str = "einsum"
    frozen_dtype: str = ""
    memory_gb: Annotated[float, "[0, 1e5]"] = 0.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: a count below 1, a choice that does not exist, negative memory.
        """
        check_ranges("hardware", self)
        if self.frozen_dtype not in _DTYPES:
            raise InputError(
                f"hardware.frozen_dtype must be one of {_DTYPES}, got {self.frozen_dtype!r}"
            )
        # The network checks `remat` and `attention` itself: their names stand in one place.
        self.network(Pi0Config())

    @property
    def devices(self) -> int:
        """Devices of the mesh."""
        return self.data * self.fsdp

    def network(self, config: Pi0Config) -> Pi0:
        """The network with this layout's `remat` and `attention`."""
        return Pi0(config, self.remat, self.attention)

    def check_batch(self, size: int) -> None:
        """Checks that every device gets the same number of windows of every micro-batch.

        Raises:
            InputError: `size` is not such a multiple.
        """
        parts = self.devices * self.micro_batches
        if size % parts:
            raise InputError(
                f"batch_size must be a multiple of hardware.data * fsdp * micro_batches = "
                f"{self.data} * {self.fsdp} * {self.micro_batches} = {parts}, got {size}"
            )


def cache_programs(folder: str) -> None:
    """Keeps compiled programs in a folder for later processes; "" keeps none.

    Args:
        folder: where to keep them; it is made when the first program is stored.
    """
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
