"""The weights of a PyTorch checkpoint under their layout's own names, wherever they lie.

A chain of small steps: the folder (`checkpoint_below.py`), the files (`weight_files.py`), their
tensors (`torch_files.py`), their names (`prefixes.py`). Each step says what it did in a note.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pi0_jax.convert import checkpoint_below, prefixes
from pi0_jax.convert.orbax_source import is_orbax
from pi0_jax.convert.torch_files import Tensors, open_tensors
from pi0_jax.convert.weight_files import is_checkpoint, weight_files
from pi0_jax.errors import InputError

_NAMED = 8


class Choice(NamedTuple):
    """What the command line says about which weights are meant.

    Attributes:
        container: name of the dict, or of the prefix, of one of several sets in a file.
    """

    container: str | None = None


ANY = Choice()
"""No choice: there is one set of weights."""


@dataclass(frozen=True)
class Weights:
    """Opened weights.

    Attributes:
        tensors: under their layout's names.
        folder: where config.json and the statistics lie.
        notes: what was done to get them.
    """

    tensors: Tensors
    folder: Path
    notes: list[str]


def open_weights(path: Path, choice: Choice = ANY) -> Weights:
    """Opens a checkpoint folder, one file of it, or the folder of a run with one checkpoint.

    Raises:
        InputError: nothing holds weights there, several do, or a file is damaged or unsafe.
    """
    folder, notes = locate(path)
    tensors = open_tensors(weight_files(path if path.is_file() else folder))
    if tensors.beside:
        notes.append(f"beside the weights, not read: {_some(sorted(set(tensors.beside)))}")
    stripped = prefixes.strip(tensors, choice.container, path)
    return Weights(stripped.tensors, folder, notes + stripped.notes)


def locate(path: Path) -> tuple[Path, list[str]]:
    """The folder with the checkpoint, and a note if it is not the one that was given.

    Raises:
        InputError: no such path, no weights, or several checkpoints.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix == ".distcp":
        raise InputError(_parts(path.parent))
    if path.is_file():
        return path.parent, []
    if is_orbax(path):
        raise InputError(f"{path}: {_EXPECTED}, found an Orbax folder; {_USE_JAX}")
    found = checkpoint_below.find(path, is_checkpoint)
    if found is None:
        raise InputError(_nothing(path))
    return found


_EXPECTED = "expected PyTorch weights (model.safetensors, pytorch_model.bin or an index of shards)"
_USE_JAX = "use `python -m convert.jax_to_flax`"


def _nothing(path: Path) -> str:
    """Why a folder without weights cannot be read, and what to do."""
    below = [path, *checkpoint_below.folders(path)]
    for folder in below:
        if is_orbax(folder):
            return f"{path}: {_EXPECTED}, found an Orbax folder, {folder}; {_USE_JAX}"
        if any(folder.glob("*.distcp")):
            return _parts(folder)
        if any(folder.glob("zero_pp_rank_*")):
            return (
                f"{folder}: DeepSpeed's parts of the weights, one per process; put them together "
                "with its zero_to_fp32.py"
            )
        if any(folder.glob("checkpoint_rank_*.pt")):
            return (
                f"{folder}: RLinf's parts of the weights, one per process; save "
                "model_state_dict/full_weights.pt too (save_full_model_weights)"
            )
    there = _some(sorted(child.name for child in path.iterdir()))
    return f"{path}: {_EXPECTED}, found {there or 'an empty folder'}"


def _parts(folder: Path) -> str:
    advice = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
    if folder.name.startswith("pytorch_model_fsdp"):
        advice = "lerobot-convert-dcp, or " + advice
    return (
        f"{folder}: a distributed checkpoint of torch, in parts; put it together with {advice} "
        "(torch.distributed.checkpoint.format_utils.dcp_to_torch_save)"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
