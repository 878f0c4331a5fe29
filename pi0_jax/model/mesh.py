"""Where parameters, and the rows of a layer, lie on a mesh of devices [data, fsdp].

Parameters are held in parts along `fsdp`, and the batch is cut along both axes, so every product of
both has a conflict, which the compiler would solve by gathering activations of the whole batch.
Here the weights give way, as in ZeRO-3 (arXiv 1910.02054): the weights of one layer at a time are
gathered, in the dtype of their use, and every device computes its own rows alone. The backward pass
does the inverse: it sums a layer's gradient over the devices, and each keeps its part.

The mesh is the one that an update is traced for (`training/fit.py: jit_on_mesh`). Without one
nothing here adds an operation: programs for one device are what they would be without this file.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import PartitionSpec

from pi0_jax.model.use_dtype import is_cast
from pi0_jax.types import path_name

DATA, FSDP = "data", "fsdp"
"""Axes of the mesh: copies of the parameters, and parts of one copy."""

ROWS = PartitionSpec((DATA, FSDP))
"""Of arrays [b, ...]: devices that hold parts of one copy still compute different rows."""

MIN_SIZE = 2**16
"""Leaves of fewer elements are copied: gathering them costs more than holding a copy."""

Spec = tuple[str | None, ...]
SPECS: tuple[tuple[str, Spec], ...] = (
    # Rows of [vocabulary, width] are looked up by token. Cut along the width, each device looks up
    # its part without asking the others.
    (r".*embedder/input_embedding", (None, FSDP)),
)
"""(path regex, spec) pairs; the first that matches a whole path decides, else the size does."""


def leaf_spec(path: str, shape: tuple[int, ...], fsdp: int) -> Spec:
    """Along which axes a parameter, or an optimizer moment of it, is cut.

    Args:
        path: slash-joined path; it ends with the parameter's own path.
        shape: shape of the leaf.
        fsdp: number of devices along the mesh axis `fsdp`.

    Returns:
        One entry per axis of the leaf, or () for a leaf that every device holds. Without a rule
        the longest axis that `fsdp` divides is cut, and the last of axes of equal length.
    """
    if fsdp == 1 or math.prod(shape) < MIN_SIZE:
        return ()
    # A spec has one entry per axis, so it fits only leaves of that rank.
    for regex, spec in SPECS:
        if re.fullmatch(regex, path) and len(spec) == len(shape):
            return spec
    whole = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not whole:
        return ()
    # One axis is enough: a leaf [w, m] is held as [w, m/fsdp] or as [w/fsdp, m].
    cut = max(whole, key=lambda axis: (shape[axis], axis))
    return tuple(FSDP if axis == cut else None for axis in range(len(shape)))


def gathered(weights: Any, dtype: Any) -> Any:
    """One layer's weights as every device needs them: cast, then whole.

    Args:
        weights: tree of arrays; all but the norms' (`is_cast`) are cast to `dtype` by every use.
        dtype: compute dtype of the layer.

    Returns:
        The same tree; as it is where there is no mesh.
    """
    if not _on_mesh():
        return weights
    fsdp = jax.sharding.get_abstract_mesh().shape[FSDP]

    def gather(path: Any, leaf: jax.Array) -> jax.Array:
        """One leaf, on every device."""
        name = path_name(path)
        used = leaf.astype(dtype) if is_cast(name) else leaf
        # Named before and after: else the compiler may gather first and cast then, and the
        # gradient is summed to all devices and cut later, which moves twice the bytes.
        if spec := leaf_spec(name, leaf.shape, fsdp):
            used = _constrained(used, PartitionSpec(*spec))
        return _constrained(used, PartitionSpec())

    return jax.tree_util.tree_map_with_path(gather, weights)


def own_rows(tree: Any) -> Any:
    """A tree of arrays [b, ...], each device with its rows; as it is where there is no mesh."""
    return jax.tree.map(lambda x: _constrained(x, ROWS), tree) if _on_mesh() else tree


def _on_mesh() -> bool:
    return FSDP in jax.sharding.get_abstract_mesh().axis_names


def _constrained(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, spec)
