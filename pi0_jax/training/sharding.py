"""A mesh of devices with axes (data, fsdp), and where every array of training lies on it.

    parameters and optimizer state   small ones everywhere; large ones cut along fsdp
    batch                            cut along both axes
    step, metrics                    everywhere

The compiler inserts the collectives, so one update is the same program on one device, on eight,
and on several hosts.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.model.mesh import DATA, FSDP, ROWS, leaf_spec
from pi0_jax.training.hardware import Hardware
from pi0_jax.types import Batch, path_name


def make_mesh(hardware: Hardware) -> Mesh:
    """All devices of all hosts, as a mesh [data, fsdp].

    Raises:
        InputError: `data * fsdp` is not the number of devices.
    """
    found = jax.device_count()
    if hardware.devices != found:
        raise InputError(
            f"hardware.data * hardware.fsdp must be the number of devices, got "
            f"{hardware.data} * {hardware.fsdp} = {hardware.devices} and {found} devices: "
            f"set --config.hardware.data={found} (whole copies) or --config.hardware.fsdp={found} "
            "(each device holds a part)"
        )
    # Auto: the compiler propagates the layout; with Explicit types every einsum must name one.
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((hardware.data, hardware.fsdp), (DATA, FSDP), axis_types=kinds)


def check_devices(hardware: Hardware) -> None:
    """Checks that a mesh is of all devices; only a single process may use one of several.

    Raises:
        InputError: as `make_mesh`.
    """
    if hardware.devices > 1 or talk.count() > 1:
        make_mesh(hardware)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The layout of a whole `TrainState`, as a tree of the same structure.

    Args:
        tree: arrays or their shapes.
        mesh: from `make_mesh`.
    """

    def layout(path: Any, leaf: Any) -> NamedSharding:
        """Where one leaf lies."""
        # A moment's path ends with its parameter's, so both are cut alike and meet on one device.
        name = path_name(path)
        spec = leaf_spec(name, leaf.shape, mesh.shape[FSDP])
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(layout, tree)


def everywhere(mesh: Mesh) -> NamedSharding:
    """The layout of arrays that every device holds completely."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The layout of arrays [b, ...], whose rows are shared among all devices."""
    return NamedSharding(mesh, ROWS)


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """A host batch on the mesh.

    Args:
        batch: the whole batch, equal on every host; a host copies only the rows of its devices.
        mesh: mesh from `make_mesh`.
    """
    layout = over_batch(mesh)
    # [b, H, d] for actions, [b/devices, H, d] on each device.
    return jax.tree.map(lambda leaf: place(np.asarray(leaf), layout), batch)


def place(host: np.ndarray, layout: Sharding) -> jax.Array:
    """A host array, equal on every host, on its devices; each host copies only what they need."""
    return jax.make_array_from_callback(np.shape(host), layout, host.__getitem__)


def rows_here(mesh: Mesh, rows: int) -> np.ndarray | None:
    """Which rows of a batch lie on devices of this host, bool[rows]; None where all do.

    Args:
        mesh: mesh from `make_mesh`.
        rows: of the whole batch.
    """
    if jax.process_count() == 1:
        return None
    here = np.zeros(rows, bool)
    for part in over_batch(mesh).addressable_devices_indices_map((rows,)).values():
        here[part or ()] = True
    return here


def gather(tree: Any) -> Any:
    """A tree of arrays that may lie on several hosts, as whole host arrays; all hosts call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    # A host cannot read the devices of another one: all exchange their parts.
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def on_first_host(leaves: dict[str, Any]) -> dict[str, Any]:
    """Arrays by name, which may lie on several hosts, whole on the first; all hosts call it.

    Returns:
        Host arrays there, nothing on the others.
    """
    if talk.count() == 1:
        return gather(leaves)
    # One after the other: the devices have no room for all of them whole.
    whole = ((name, gather(leaf)) for name, leaf in leaves.items())
    return {name: leaf for name, leaf in whole if talk.leads()}
