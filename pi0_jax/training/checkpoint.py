"""One Orbax step folder: training state, and what the host must remember with it.

checkpoints/<step>/state/      Orbax: step, parameters, optimizer state
checkpoints/<step>/host.json   phase, data position, RL sampler
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


def check_room(folder: Path, state: TrainState) -> None:
    """The disk holds two checkpoints of this state: the old one goes when the new one is whole.

    Args:
        folder: of all checkpoints of one run or method; it need not exist.
        state: as it will be saved.

    Raises:
        InputError: it does not.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    check_space(folder, 2 * size - held, f"two checkpoints of {size / 1e9:.2f} GB")


def save(folder: Path, step: int, state: TrainState, host: dict[str, Any]) -> None:
    """Writes `folder/<step>`, which appears only when whole, then drops older steps.

    Args:
        folder: of all checkpoints of one run or method.
        step: global optimizer step.
        state: device values; optimizer states are saved as a list of leaves.
        host: JSON values.
    """
    with atomic_folder(folder / str(step)) as partial:
        save_tree(partial / "state", _leaves(state))
        (partial / "host.json").write_text(json.dumps(host, indent=1) + "\n")
    for older in steps(folder)[:-1]:
        shutil.rmtree(folder / str(older))


def steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in a folder, ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def latest(folder: Path) -> dict[str, Any] | None:
    """What the host remembered at the newest checkpoint; None without one.

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


def restore(folder: Path, like: TrainState) -> TrainState:
    """The newest checkpoint's training state.

    Args:
        folder: of all checkpoints of one run or method.
        like: a state of the same model and optimizer.

    Raises:
        InputError: there is none, or it belongs to another model or optimizer.
    """
    found = steps(folder)
    if not found:
        raise InputError(f"{folder}: expected a checkpoint, found none")
    path = folder / str(found[-1])
    saved, wanted = load_tree(path / "state"), _leaves(like)
    shapes, wanted_shapes = (jax.tree.map(np.shape, tree) for tree in (saved, wanted))
    if shapes != wanted_shapes:
        raise InputError(f"{path}: belongs to another model or optimizer than the config's")
    # Each leaf goes where its counterpart lies: on a mesh, in parts.
    leaves = [jax.device_put(saved[name], place.sharding) for name, place in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _leaves(state: TrainState) -> dict[str, Any]:
    """Flat and by position: optax states are tuples, which Orbax would give back as lists."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
