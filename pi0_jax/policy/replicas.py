"""What a policy acts with: one replica of its parameters per device, in the dtype of their use.

Calls of a fixed number of rows are spread over the devices, so a chunk has the same bits on one
device and on eight. Cutting the parameters over the devices instead would round otherwise, and
exchange activations in every layer.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from pi0_jax.model.use_dtype import dtype_to_act
from pi0_jax.types import path_name


class Weights(NamedTuple):
    """Parameters on one device.

    Attributes:
        params: parameter tree of the policy.
        base: that of the base that guidance leads away from, or None. Leaves that both have in
            common are one array.
    """

    params: Any
    base: Any = None


class Replicas:
    """The weights on every device of this host; each device gets them when it is first used."""

    def __init__(self, weights: Weights, compute_dtype: str):
        """Places nothing yet.

        Args:
            weights: on the host, on a device, or cut over all devices as in training.
            compute_dtype: of the network.
        """
        self._weights, self._dtype = weights, compute_dtype
        self._placed: dict[Any, Weights] = {}
        # A device that the caller chose (`jax.default_device`) is used alone.
        chosen = jax.config.values["jax_default_device"] is not None
        self.devices = tuple(jnp.zeros(()).devices() if chosen else jax.local_devices())

    def are_of(self, weights: Weights) -> bool:
        """Whether these are replicas of the same trees."""
        return all(a is b for a, b in zip(self._weights, weights, strict=True))

    def on(self, device: Any) -> Weights:
        """The weights on one of `devices`."""
        if device not in self._placed:
            mesh = _mesh_of(self._weights, self.devices)
            # One program gathers for all devices at once, and nothing goes over the host.
            self._placed |= self._gathered(mesh) if mesh else {device: self._copied(device)}
        return self._placed[device]

    def _copied(self, device: Any) -> Weights:
        # Cast where they lie, one after the other: the device never holds all of them uncast.
        return self._each(lambda leaf, dtype: jax.device_put(leaf, device).astype(dtype))

    def _gathered(self, mesh: Any) -> dict[Any, Weights]:
        leaves, dtypes = [], []
        self._each(lambda leaf, dtype: (leaves.append(leaf), dtypes.append(dtype)))
        layouts = tuple(leaf.sharding for leaf in leaves)
        whole = _on_all(leaves, tuple(dtypes), layouts, NamedSharding(mesh, PartitionSpec()))

        def part(device: Any) -> Weights:
            """The copies on one device, which are views of the global arrays."""
            copies = iter(whole)
            return self._each(lambda leaf, dtype: _shard(next(copies), device))

        return {device: part(device) for device in self.devices}

    def _each(self, place: Any) -> Weights:
        """Both trees with every leaf placed; a leaf that they share is placed once."""
        known: dict[int, Any] = {}

        def tree(params: Any) -> Any:
            """One of the trees."""

            def one(path: Any, leaf: Any) -> Any:
                """One leaf; `place` gets it and the dtype to hold it in."""
                if id(leaf) not in known:
                    name = path_name(path)
                    dtype = dtype_to_act(name, leaf, self._dtype, adapted="lora" in params)
                    known[id(leaf)] = place(leaf, dtype)
                return known[id(leaf)]

            return jax.tree_util.tree_map_with_path(one, params)

        return Weights(*map(tree, self._weights))


def _mesh_of(weights: Weights, devices: tuple[Any, ...]) -> Any:
    """The mesh that all leaves are cut over, if it has all of `devices`; None for other trees."""
    meshes = {
        getattr(getattr(leaf, "sharding", None), "mesh", None) for leaf in jax.tree.leaves(weights)
    }
    mesh = meshes.pop() if len(meshes) == 1 else None
    return mesh if mesh is not None and set(devices) <= set(mesh.devices.flat) else None


@partial(jax.jit, static_argnames=("dtypes", "layouts", "whole"))
def _on_all(leaves: Any, dtypes: Any, layouts: Any, whole: NamedSharding) -> Any:
    """Leaves cast while they are cut, and then gathered on every device."""
    rule = jax.lax.with_sharding_constraint
    parts = zip(leaves, dtypes, layouts, strict=True)
    return [rule(rule(leaf.astype(dtype), layout), whole) for leaf, dtype, layout in parts]


def _shard(whole: jax.Array, device: Any) -> jax.Array:
    return next(shard.data for shard in whole.addressable_shards if shard.device == device)
