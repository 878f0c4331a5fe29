"""The weights of a PyTorch checkpoint under their layout's own names, wherever they lie.

A chain of small steps: the folder (`checkpoint_below.py`), the files (`weight_files.py`), their
tensors (`torch_files.py`), their names (`prefixes.py`), an adapter (`adapters.py`). Each step says
what it did in a note.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pi0_jax.convert.files import checkpoint_below
from pi0_jax.convert.files.known_files import ADAPTER_CONFIG, ADAPTER_FILES
from pi0_jax.convert.files.torch_files import Tensors, open_tensors
from pi0_jax.convert.files.weight_files import check_listed, is_checkpoint, weight_set, weight_sets
from pi0_jax.convert.sources import adapters, bare_layout, prefixes
from pi0_jax.convert.sources.adapter_config import AdapterConfig, read_adapter_config
from pi0_jax.convert.sources.orbax_source import is_orbax
from pi0_jax.errors import InputError

_NAMED = 8


class Choice(NamedTuple):
    """What the command line says about which weights are meant.

    Attributes:
        container: name of the dict, or of the prefix, of one of several sets in a file.
        base: the weights that an adapter was trained on, if they do not lie beside it.
    """

    container: str | None = None
    base: Path | None = None


ANY = Choice()
"""No choice: there is one set of weights."""


@dataclass(frozen=True)
class Weights:
    """Opened weights.

    Attributes:
        tensors: under their layout's names.
        folders: where config.json and the statistics may lie; the first comes first.
        notes: what was done to get them.
        merged: keys of adapters that are part of other tensors.
        unread: keys that no forward pass reads, with the reason.
    """

    tensors: Tensors
    folders: tuple[Path, ...]
    notes: list[str]
    merged: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def open_weights(path: Path, choice: Choice = ANY) -> Weights:
    """Opens a checkpoint folder, one file of it, or the folder of a run with one checkpoint.

    Raises:
        InputError: nothing holds weights there, several do, or a file is damaged or unsafe.
    """
    folder, notes = locate(path)
    adapter = _adapter_file(path, folder)
    if adapter is None and choice.base is not None:
        raise InputError(f"--base {choice.base}: {path} is no adapter; leave out --base")
    if adapter is not None and (path.is_file() or not weight_sets(folder)):
        base = _given_base(adapter, choice)
    elif adapter is not None and choice.base is not None:
        raise InputError(
            f"--base {choice.base}: weights lie beside the adapter too; give {adapter} as SRC, or "
            "leave out --base"
        )
    else:
        base = _open_base(path, folder, choice)
        notes += _check_no_adapter_left(path, folder, base, adapter)
    found = replace(base, notes=notes + base.notes, folders=(folder, *base.folders))
    found = found if adapter is None else _merged(found, adapter)
    # Last, because adapters are named as the weights are on disk.
    if bare_layout.is_bare(found.tensors):
        bare = bare_layout.Bare(found.tensors, path)
        return replace(found, tensors=bare, notes=[*found.notes, bare_layout.NOTE])
    return found


def _check_no_adapter_left(
    path: Path, folder: Path, base: Weights, adapter: Path | None
) -> list[str]:
    """A note of an adapter that the user passed over by naming a file.

    Raises:
        InputError: a folder has the config of an adapter whose factors are nowhere.
    """
    if path.is_file():
        left = any((folder / name).is_file() for name in ADAPTER_FILES)
        return ["the adapter beside the file is not merged; give the folder for that"] * left
    if adapter is None and not base.merged and (folder / ADAPTER_CONFIG).is_file():
        raise InputError(
            f"{folder}: {ADAPTER_CONFIG} without its {ADAPTER_FILES[0]}; fetch that too, or "
            f"remove {ADAPTER_CONFIG} if the adapter is merged already"
        )
    return []


def _open_base(path: Path, folder: Path, choice: Choice) -> Weights:
    """Weights without an adapter in a file of its own."""
    weights = weight_set(path if path.is_file() else folder)
    tensors = open_tensors(weights.files)
    check_listed(weights, tensors.shapes)
    notes = []
    if tensors.beside:
        notes.append(f"beside the weights, not read: {_some(sorted(set(tensors.beside)))}")
    stripped = prefixes.strip(tensors, choice.container, path)
    found = Weights(stripped.tensors, (), notes + stripped.notes)
    if not adapters.has_layers(found.tensors):
        return found
    base, factors = adapters.apart(found.tensors)
    return _with(found, base, factors, read_adapter_config(folder / ADAPTER_CONFIG))


def _given_base(adapter: Path, choice: Choice) -> Weights:
    """The base that the user names for an adapter.

    Raises:
        InputError: none is named.
    """
    config = read_adapter_config(adapter.parent / ADAPTER_CONFIG)
    if choice.base is None:
        raise InputError(
            f"{adapter}: an adapter, without the weights that it was trained on; give them with "
            f"--base SRC (base_model_name_or_path in {ADAPTER_CONFIG} is {config.base!r})"
        )
    base = open_weights(choice.base, Choice(choice.container))
    return replace(base, notes=[f"base {choice.base}", *base.notes])


def _merged(found: Weights, adapter: Path) -> Weights:
    config = read_adapter_config(adapter.parent / ADAPTER_CONFIG)
    return _with(found, found.tensors, open_tensors([adapter]), config)


def _with(found: Weights, base: Tensors, factors: Tensors, config: AdapterConfig) -> Weights:
    merging = adapters.merge(base, factors, config)
    return replace(
        found,
        tensors=adapters.Merged(base, factors, merging),
        notes=[*found.notes, merging.note()],
        merged=[*found.merged, *(key for key in factors.shapes if key not in merging.unread)],
        unread=found.unread | merging.unread,
    )


def _adapter_file(path: Path, folder: Path) -> Path | None:
    """The file of an adapter's factors.

    Raises:
        InputError: two of them, or none although a config describes them.
    """
    if path.is_file():
        return path if path.name in ADAPTER_FILES else None
    files = [folder / name for name in ADAPTER_FILES if (folder / name).is_file()]
    if len(files) > 1:
        raise InputError(f"{folder}: {' and '.join(ADAPTER_FILES)}; give one as SRC, with --base")
    return files[0] if files else None


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
        others = [str(weights.name) for weights in weight_sets(path)]
        if others:
            names = " or ".join([*others, str(path / "params")])
            raise InputError(f"{path}: PyTorch weights and an Orbax folder; name one: {names}")
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
