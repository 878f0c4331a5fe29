"""What a policy acts with: one replica of its parameters per device, in the form of their use.

Calls of a fixed number of rows are spread over the devices, so a chunk has the same bits on one
device and on eight. Cutting the parameters over the devices instead would round otherwise, and
exchange activations in every layer.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.model.acting import Held, acting_form


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
    """The weights on every device of this host; each device gets them when it is first used.

    Weights that lie on several hosts are placed at once, because all hosts must exchange them, and
    one of them may have nothing to act on.
    """

    def __init__(self, weights: Weights, compute_dtype: str):
        """Places nothing yet where all of it is on this host.

        Args:
            weights: on the host, on a device, or cut over all devices as in training.
            compute_dtype: of the network.
        """
        self._weights, self._dtype = weights, compute_dtype
        self._placed: dict[Any, Weights] = {}
        # A device that the caller chose (`jax.default_device`) is used alone.
        chosen = jax.config.values["jax_default_device"] is not None
        self.devices = tuple(jnp.zeros(()).devices() if chosen else jax.local_devices())
        leaves = jax.tree.leaves(weights)
        if any(isinstance(x, jax.Array) and not x.is_fully_addressable for x in leaves):
            self.on(self.devices[0])

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
        def make(held: Held, leaves: Sequence[Any]) -> jax.Array:
            """One array on the device."""
            # Cast where it lies, one after the other: the device never holds all of them uncast.
            return held.made([jax.device_put(held.part(leaf), device) for leaf in leaves])

        return self._each(make)

    def _gathered(self, mesh: Any) -> dict[Any, Weights]:
        recipes: list[Held] = []
        given: list[Sequence[Any]] = []
        self._each(lambda held, leaves: (recipes.append(held), given.append(leaves)))
        layouts = tuple(tuple(leaf.sharding for leaf in leaves) for leaves in given)
        whole = _on_all(given, tuple(recipes), layouts, NamedSharding(mesh, PartitionSpec()))

        def part(device: Any) -> Weights:
            """The copies on one device, which are views of the global arrays."""
            copies = iter(whole)
            return self._each(lambda held, leaves: _shard(next(copies), device))

        return {device: part(device) for device in self.devices}

    def _each(self, make: Callable[[Held, Sequence[Any]], Any]) -> Weights:
        """Both trees in the form in which they act; an array that they share is made once.

        Args:
            make: gets what to make, and the leaves to make it of.
        """
        known: dict[Any, Any] = {}

        def tree(params: Any) -> Any:
            """One of the trees."""
            if params is None:
                return None
            by_path = leaves_by_path(params)

            def one(held: Held) -> Any:
                """One array."""
                leaves = [by_path[path] for path in held.paths]
                key = *map(id, leaves), held.layer, held.join
                if key not in known:
                    known[key] = make(held, leaves)
                return known[key]

            return jax.tree.map(one, acting_form(params, self._dtype))

        return Weights(*map(tree, self._weights))


def _mesh_of(weights: Weights, devices: tuple[Any, ...]) -> Any:
    """The mesh that all leaves are cut over, if it has all of `devices`; None for other trees."""
    meshes = {
        getattr(getattr(leaf, "sharding", None), "mesh", None) for leaf in jax.tree.leaves(weights)
    }
    mesh = meshes.pop() if len(meshes) == 1 else None
    return mesh if mesh is not None and set(devices) <= set(mesh.devices.flat) else None


@partial(jax.jit, static_argnames=("recipes", "layouts", "whole"))
def _on_all(given: Any, recipes: Any, layouts: Any, whole: NamedSharding) -> list[jax.Array]:
    """Leaves cast while they are cut over devices, then gathered on every device, and joined."""
    rule = jax.lax.with_sharding_constraint
    made = []
    for held, leaves, rules in zip(recipes, given, layouts, strict=True):
        narrow = zip(leaves, held.dtypes, rules, strict=True)
        cast = [rule(leaf.astype(dtype), layout) for leaf, dtype, layout in narrow]
        made.append(held.made([rule(held.part(leaf), whole) for leaf in cast]))
    return made


def _shard(whole: jax.Array, device: Any) -> jax.Array:
    return next(shard.data for shard in whole.addressable_shards if shard.device == device)
