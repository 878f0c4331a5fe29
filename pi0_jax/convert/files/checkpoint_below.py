"""The checkpoint in the folder of a run: used where there is only one, else all are named."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_jax.errors import InputError, some

# lerobot: run/checkpoints/010000/pretrained_model; RLinf: global_step_9/actor/model_state_dict;
# the hub's cache: snapshots/COMMIT.
_DEEPEST = 5
# Folders with files of other kinds, some of them very many.
_NO_CHECKPOINTS = (
    *(".", "optimizer", "training_state", "train_state"),
    *("assets", "wandb", "videos", "logs", "blobs"),
)
_NAMED = 6
_MOST = 10_000  # folders that are looked into: the path may be the root of a disk


def find(path: Path, is_checkpoint: Callable[[Path], bool]) -> tuple[Path, list[str]] | None:
    """The folder with the checkpoint, and a note if it is not the one that was given.

    Args:
        path: a checkpoint, or a folder above some.
        is_checkpoint: whether a checkpoint lies in a folder itself.

    Returns:
        None where there is no checkpoint.

    Raises:
        InputError: several checkpoints; the message names them, the newest step first.
    """
    if is_checkpoint(path):
        return path, []
    found = [folder for folder in folders(path, is_checkpoint) if is_checkpoint(folder)]
    if not found:
        return None
    if len(found) > 1:
        found.sort(key=_steps, reverse=True)
        names = some([str(folder) for folder in found], _NAMED)
        raise InputError(f"{path}: several checkpoints; name one: {names}")
    return found[0], [f"the checkpoint is {found[0]}"]


def folders(path: Path, is_last: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Every folder below a path once, by its real name where links lead to it twice.

    Args:
        path: the folder above.
        is_last: whether what lies below a folder is part of it.

    Raises:
        InputError: there are too many.
    """
    seen = {path.resolve()}

    def walk(folder: Path, depth: int) -> Iterator[Path]:
        """Folders of one level and below."""
        children = [child for child in sorted(folder.iterdir()) if child.is_dir()]
        # A link such as lerobot's `last` comes after what it leads to.
        for child in sorted(children, key=Path.is_symlink):
            if child.name.startswith(_NO_CHECKPOINTS) or child.resolve() in seen:
                continue
            seen.add(child.resolve())
            if len(seen) > _MOST:
                raise InputError(f"{path}: more than {_MOST:,} folders; name the checkpoint's own")
            yield child
            if depth < _DEEPEST and not is_last(child):
                yield from walk(child, depth + 1)

    yield from walk(path, 1)


def _steps(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]
