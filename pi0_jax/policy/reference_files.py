"""The optional part of a policy folder: the policy that its guidance can lead away from.

reference/leaves.json   names of the leaves in which it differs from the policy
reference/params/       Orbax, those leaves in the official tree; absent if there are none

Programs that do not know it read the folder as they did.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import load_shapes, nest, save_tree
from pi0_jax.io.tree_check import (
    compare,
    dtypes,
    fail,
    leaves_by_path,
    not_finite,
    shapes_by_path,
)
from pi0_jax.json_file import read_object

REFERENCE = "reference"
LEAVES, PARAMS = "leaves.json", "params"
FORMAT_VERSION = 1


def write_reference(folder: Path, params: Any, reference: Any) -> None:
    """Writes the leaves of a reference that are not the policy's.

    Args:
        folder: the policy folder that is being written.
        params: parameter tree of the policy.
        reference: parameter tree; common leaves are the same arrays as in `params`.
    """
    ours = leaves_by_path(params)
    own = {n: leaf for n, leaf in leaves_by_path(reference).items() if leaf is not ours.get(n)}
    path = folder / REFERENCE
    path.mkdir()
    if own:
        save_tree(path / PARAMS, {"params": nest(own)})
    # The list shows that a leaf is missing, which would else be taken to be the policy's.
    listed = {"format_version": FORMAT_VERSION, "leaves": sorted(own)}
    (path / LEAVES).write_text(json.dumps(listed, indent=1) + "\n")


def read_reference(
    folder: Path, params: dict[str, Any], load: Callable[[Path], Any]
) -> dict[str, Any] | None:
    """The whole parameter tree of a policy folder's reference; None if the folder has none.

    Args:
        folder: the policy folder.
        params: parameter tree of the policy, arrays or shapes; common leaves are taken from it.
        load: reads an Orbax folder as `params` was read: `load_tree` or `load_shapes`.

    Raises:
        InputError: a file is damaged, or one error that lists every leaf that is missing,
            unexpected, misshapen, of no floating-point dtype, or not finite.
    """
    path = folder / REFERENCE
    if not path.exists():
        return None
    listed, ours = _listed(path / LEAVES), leaves_by_path(params)
    # Before any value is read: a few bytes can declare more than the memory holds.
    shapes = _stored(path, load_shapes)
    problems = [f"{name}: the policy has no such leaf" for name in listed if name not in ours]
    expected = {name: tuple(ours[name].shape) for name in listed if name in ours}
    problems += compare(expected, shapes_by_path(shapes))
    problems += dtypes({name: leaf.dtype.name for name, leaf in shapes.items()})
    if problems:
        fail(path, problems)
    own = _stored(path, load)
    values = ((name, leaf) for name, leaf in own.items() if isinstance(leaf, np.ndarray))
    if problems := not_finite(values):
        fail(path, problems)
    return nest(ours | own)


def _stored(path: Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Path -> leaf of what a reference's own params/ holds; empty if there is none."""
    if not (path / PARAMS).exists():
        return {}
    tree = load(path / PARAMS)
    return leaves_by_path(tree.get("params", tree))


def _listed(path: Path) -> list[str]:
    """The names in leaves.json.

    Raises:
        InputError: the file is missing or damaged, or of another version.
    """
    try:
        found = read_object(path)
        version, names = found["format_version"], found["leaves"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the list of a reference's leaves, got {error!r}; copy the policy "
            f"folder again, or remove its {REFERENCE}/"
        ) from error
    if version != FORMAT_VERSION or not isinstance(names, list):
        raise InputError(f"{path}: expected a list of format {FORMAT_VERSION}, got {version}")
    return names
