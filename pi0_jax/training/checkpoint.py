"""Checkpoints: training state, and what the host must remember with it; none is lost.

checkpoints/<step>/          the first save after so many optimizer steps
checkpoints/<step>.<n>/      the n-th save after it at the same step: no update came between
    state/                   Orbax: step, trained parameters, optimizer state, moving average
    frozen.json              digest of the leaves that are left out, which the base policy has
                             (`frozen.py`); not there where all parameters are in state/
    host.json                step, phase, name of the run; in RL also the iteration, the plan of
                             initial states, and digests of the episodes
    digests.json             size and digest of each file (`io/digests.py`)
checkpoints/<name>.damaged/  set aside, because it could not be read (`training/recovery.py`)
checkpoints/<name>.aside/    set aside by --from

Of several hosts the first alone reads and writes them; the others give it what it lacks, and get
what it has read.

A save touches no earlier one, and appears when all of it is on the disk. Only then older ones go.
Training saves by a `Saver` (`saver.py`), which writes in the background.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.atomic import atomic_folder, remove
from pi0_jax.io.digests import write_digests
from pi0_jax.io.orbax_tree import load_tree, save_tree
from pi0_jax.io.place import check_space, size_text
from pi0_jax.json_file import read_object
from pi0_jax.listing import below, entries
from pi0_jax.ranges import check_ranges
from pi0_jax.training.frozen import NOTHING, Frozen
from pi0_jax.training.sharding import place
from pi0_jax.training.step import TrainState
from pi0_jax.types import path_name

Leaves = dict[str, Any]
"""Leaves of a `TrainState` by position, as they are saved: on a device, or on the host."""

# As a save names them: 0044 or 44.bak is a copy that somebody made.
_NAME = re.compile(r"(0|[1-9]\d*)(?:\.([1-9]\d*))?")
_FROZEN, _STEP = "frozen.json", "step"

RUN = "run"
"""Key of host.json, and of the run's config.json, for the name of the run."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """Which checkpoints a run keeps.

    Attributes:
        keep: the newest so many of each method; the best one (`rl/best.py`) is kept besides.
    """

    keep: Annotated[int, "[1, 1000]"] = 2

    def __post_init__(self) -> None:
        """Checks the number.

        Raises:
            InputError: it is below 1.
        """
        check_ranges("checkpoints", self)


KEEP = CheckpointsConfig.keep


def check_room(
    folder: Path, state: TrainState, count: int = KEEP + 1, frozen: Frozen = NOTHING
) -> None:
    """Checks that the disk has room for some checkpoints of this state.

    Args:
        folder: where all checkpoints of one run or method lie; it need not exist.
        state: the state as it will be saved.
        count: those that are kept, and the one that is being written.
        frozen: leaves that are left out.

    Raises:
        InputError: the disk has less room.
    """
    talk.first(lambda: _check_room(folder, size_of(leaves_of(state, frozen)), count))


def _check_room(folder: Path, size: int, count: int) -> None:
    # What lies there already is part of them; what was set aside stays besides.
    files = [file for path in saved(folder) for file in below(path) if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    check_space(
        folder,
        count * size - held,
        f"{count} checkpoints of {size_text(size)} (config.checkpoints.keep sets how many)",
    )


def save(
    folder: Path,
    step: int,
    state: TrainState,
    host: dict[str, Any],
    keep: int = KEEP,
    also: Collection[int] = (),
    frozen: Frozen = NOTHING,
) -> None:
    """Writes a checkpoint, as `write` does; the state is on the device."""
    write(folder, step, leaves_of(state, frozen), host, keep, also, frozen)


def leaves_of(state: TrainState, frozen: Frozen = NOTHING) -> Leaves:
    """What is saved of a state: its leaves by position, as Orbax would give tuples back as lists.

    Args:
        state: the whole state.
        frozen: leaves that are left out.
    """
    found = enumerate(jax.tree_util.tree_flatten_with_path(state)[0])
    left = {f"params/{path}" for path in frozen.leaves}
    # Digits of equal width: sorted by name is sorted by position.
    return {f"{i:05d}": leaf for i, (path, leaf) in found if path_name(path) not in left}


def size_of(leaves: Leaves) -> int:
    """Bytes of leaves on the disk; of a sharded array all parts count."""
    return sum(leaf.nbytes for leaf in leaves.values())


def write(
    folder: Path,
    step: int,
    leaves: Leaves,
    host: dict[str, Any],
    keep: int = KEEP,
    also: Collection[int] = (),
    frozen: Frozen = NOTHING,
) -> None:
    """Writes a checkpoint, which appears only when it is complete, then deletes older ones.

    Args:
        folder: where all checkpoints of one run or method lie.
        step: number of the optimizer step, which names the checkpoint.
        leaves: from `leaves_of`; they must not change meanwhile.
        host: JSON values that the host needs to continue, such as {"phase": "sft"}.
        keep: how many of the newest stay.
        also: steps of which the newest checkpoint stays too.
        frozen: leaves that were left out.
    """
    same = [_order(path)[1] for path in saved(folder) if step_of(path) == step]
    name = f"{step}.{same[-1] + 1}" if same else str(step)
    with atomic_folder(folder / name) as partial:
        save_tree(partial / "state", leaves)
        if frozen.leaves:
            left = {"digest": frozen.digest, "leaves": len(frozen.leaves)}
            (partial / _FROZEN).write_text(json.dumps(left) + "\n")
        values = {_STEP: step, **host}
        (partial / "host.json").write_text(json.dumps(values, indent=1) + "\n")
        write_digests(partial)
    # Only now: at every moment `keep` complete checkpoints are on the disk.
    found = saved(folder)
    newest = {step_of(path): path for path in found}
    stay = {*found[-keep:], *(newest[one] for one in also if one in newest)}
    for path in found:
        if path not in stay:
            remove(path)


def saved(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first.

    Raises:
        OSError: the folder may not be read.
    """
    # One that is being written, removed or was set aside has another kind of name.
    found = [path for path in entries(folder) if _NAME.fullmatch(path.name)]
    return sorted(found, key=_order)


def steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, ascending, each once."""
    return sorted({step_of(path) for path in saved(folder)})


def step_of(path: Path) -> int:
    """The optimizer step of one of the checkpoints that `saved` lists."""
    return _order(path)[0]


def host_of(path: Path) -> dict[str, Any]:
    """The host values of one checkpoint.

    Raises:
        InputError: the file is missing or damaged, or the checkpoint has another one's name.
    """
    try:
        found = read_object(path / "host.json")
    except OSError as error:
        raise InputError(f"{path}/host.json: expected what the host remembers: {error}") from error
    # Those of earlier versions do not say.
    named = step_of(path)
    if (step := found.pop(_STEP, named)) != named:
        raise InputError(f"{path}: expected the state after {named} steps, got that after {step}")
    return found


def latest(folder: Path) -> dict[str, Any] | None:
    """The host values of the newest checkpoint; None where there is no checkpoint.

    Raises:
        InputError: the file is missing or damaged.
    """

    def of_newest() -> dict[str, Any] | None:
        """As the first host finds them."""
        found = saved(folder)
        return host_of(found[-1]) if found else None

    return talk.first(of_newest)


def restore(
    folder: Path, like: TrainState, step: int | None = None, frozen: Frozen = NOTHING
) -> TrainState:
    """The training state of a checkpoint.

    Args:
        folder: where all checkpoints of one run or method lie.
        like: a state of the same model and optimizer, as it starts; it gives structure, shapes and
            placement, and the leaves that the checkpoint leaves out.
        step: number of the optimizer step; None for the newest.
        frozen: leaves that may be left out, of the policy that `like` was made from.

    Raises:
        InputError: there is no checkpoint, or it belongs to another model, optimizer or base.
    """
    path = folder / talk.first(lambda: _named(folder, step).name)
    # One of an earlier version, or of a base outside the run, holds all leaves.
    left = frozen if talk.first(lambda: _checked_base(path, frozen)) else NOTHING
    wanted = leaves_of(like, left)
    tree = talk.first_tree(_read(path, wanted) if talk.leads() else wanted)
    # Leaf by leaf, to the place of its counterpart: on a mesh every device gets only its part, and
    # none needs room for the whole state.
    placed = {name: _placed(tree[name], leaf) for name, leaf in wanted.items()}
    leaves = [placed.get(name, leaf) for name, leaf in leaves_of(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(folder: Path, step: int | None) -> Path:
    """The newest checkpoint of a step, or of all; errors as `restore`."""
    found = saved(folder)
    of_step = [path for path in found if step in (None, step_of(path))]
    if not of_step:
        named = "a checkpoint" if step is None else f"the checkpoint {step}"
        raise InputError(f"{folder}: expected {named}, found {steps(folder) or 'none'}")
    return of_step[-1]


def _read(path: Path, wanted: Leaves) -> Leaves:
    """The leaves of a checkpoint, as host arrays in the shapes of `wanted`; errors as `restore`."""
    tree = load_tree(path / "state")
    shapes, wanted_shapes = (jax.tree.map(np.shape, one) for one in (tree, wanted))
    if shapes != wanted_shapes:
        raise InputError(f"{path}: belongs to another model or optimizer than the config's")
    return tree


def _placed(values: np.ndarray, like: jax.Array) -> jax.Array:
    """Host values where a state has the leaf `like`."""
    if not like.is_fully_addressable:
        return place(values, like.sharding)
    # An array that was bound to no device is not bound now: bound ones would be another program for
    # jit, and a resumed run would compile it again.
    return jax.device_put(values, like.sharding if like.committed else None)


def _checked_base(path: Path, frozen: Frozen) -> bool:
    """Whether a checkpoint leaves leaves out; if so, they are these.

    Raises:
        InputError: they are others.
    """
    if not (path / _FROZEN).exists():
        return False
    before = read_object(path / _FROZEN).get("digest")
    if before != frozen.digest:
        raise InputError(
            f"{path}: leaves out frozen parameters (digest {before!s:.12}), and those of the base "
            f"policy and the optimizer's rules are others now ({frozen.digest:.12}); put both "
            "back, or start a new run"
        )
    return True


def _order(path: Path) -> tuple[int, int]:
    """Step, and number of the save at this step: how checkpoints are sorted."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)
