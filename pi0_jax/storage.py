"""Parameter trees on disk through Orbax, in the official layout: the one file that knows Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pi0_jax.errors import InputError

Tree = Any


def save_tree(path: Path, tree: Tree) -> None:
    """Writes a tree of arrays as one Orbax folder; it appears under its name only when whole.

    Args:
        path: folder to make; must not exist.
        tree: nested dicts of arrays.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), jax.tree.map(np.asarray, tree))


def load_tree(path: Path) -> Tree:
    """Reads an Orbax folder as nested dicts of host arrays, whatever mesh it was saved on.

    Raises:
        InputError: the folder is missing, or Orbax cannot read it.
    """
    if not (path / "_METADATA").is_file():
        raise InputError(f"{path}: expected an Orbax folder (with _METADATA), found none")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(path.absolute())
            shapes = getattr(metadata, "item_metadata", metadata)
            shapes = getattr(shapes, "tree", shapes)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            return checkpointer.restore(path.absolute(), restore_args=as_numpy)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{path}: Orbax cannot read this folder: {error}") from error
