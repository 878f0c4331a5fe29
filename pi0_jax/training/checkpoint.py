"""One Orbax step folder: training state, and what the host must remember with it.

checkpoints/<step>/state/      Orbax: step, parameters, optimizer state
checkpoints/<step>/host.json   phase; in RL also the iteration and the plan of initial states
"""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.io.atomic import atomic_folder
from pi0_jax.io.orbax_tree import load_tree, save_tree
from pi0_jax.io.place import check_space
from pi0_jax.training.step import TrainState


def check_room(folder: Path, state: TrainState, count: int = 2) -> None:
    """Checks that the disk has room for some checkpoints of this state.

    Two, because the old checkpoint is deleted only when the new one is complete.

    Args:
        folder: where all checkpoints of one run or method lie; it need not exist.
        state: the state as it will be saved.
        count: number of checkpoints; 3 if one more is kept besides the newest.

    Raises:
        InputError: the disk has less room.
    """
    # `nbytes` counts a sharded array whole: a checkpoint holds all parts.
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    # What lies there already is part of them.
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    check_space(folder, count * size - held, f"{count} checkpoints of {size / 1e9:.2f} GB")


def save(
    folder: Path, step: int, state: TrainState, host: dict[str, Any], keep: int | None = None
) -> None:
    """Writes `folder/<step>`, which appears only when complete, then deletes older steps.

    Args:
        folder: where all checkpoints of one run or method lie.
        step: number of the optimizer step, which names the checkpoint.
        state: training state on the device; its leaves are saved by position.
        host: JSON values that the host needs to continue, such as {"phase": "sft"}.
        keep: an older step that is not deleted.
    """
    # A complete folder or none: an interruption in the middle leaves the older checkpoint.
    with atomic_folder(folder / str(step)) as partial:
        save_tree(partial / "state", _leaves(state))
        (partial / "host.json").write_text(json.dumps(host, indent=1) + "\n")
    # Only now: at every moment one complete checkpoint exists.
    for older in steps(folder)[:-1]:
        if older != keep:
            shutil.rmtree(folder / str(older))


def steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, ascending."""
    # A checkpoint that is being written has a temporary name, which is no number.
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def latest(folder: Path) -> dict[str, Any] | None:
    """The host values of the newest checkpoint; None where there is no checkpoint.

    Raises:
        InputError: the file is missing or damaged.
    """
    found = steps(folder)
    if not found:
        return None
    path = folder / str(found[-1]) / "host.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected what the host remembers, got: {error}") from error


def restore(folder: Path, like: TrainState, step: int | None = None) -> TrainState:
    """The training state of a checkpoint.

    Args:
        folder: where all checkpoints of one run or method lie.
        like: a state of the same model and optimizer; it gives structure, shapes and placement.
        step: number of the optimizer step; None for the newest.

    Raises:
        InputError: there is no checkpoint, or it belongs to another model or optimizer.
    """
    found = steps(folder)
    if not found or step not in (None, *found):
        named = "a checkpoint" if step is None else f"the checkpoint {step}"
        raise InputError(f"{folder}: expected {named}, found {found or 'none'}")
    path = folder / str(found[-1] if step is None else step)
    saved, wanted = load_tree(path / "state"), _leaves(like)
    shapes, wanted_shapes = (jax.tree.map(np.shape, tree) for tree in (saved, wanted))
    if shapes != wanted_shapes:
        raise InputError(f"{path}: belongs to another model or optimizer than the config's")
    # Leaf by leaf, to the place of its counterpart: on a mesh every device gets only its part, and
    # none needs room for the whole state. An array that was bound to no device is not bound now:
    # bound ones would be another program for jit, and a resumed run would compile it again.
    leaves = [
        jax.device_put(saved[name], place.sharding if place.committed else None)
        for name, place in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _leaves(state: TrainState) -> dict[str, Any]:
    """Leaves by position, since Orbax would give optax's tuples back as lists."""
    # Digits of equal width: sorted by name is sorted by position.
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
