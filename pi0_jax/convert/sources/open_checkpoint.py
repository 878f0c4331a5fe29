"""Opens a checkpoint of any layout."""

from pathlib import Path

from pi0_jax.convert.files import checkpoint_below
from pi0_jax.convert.files.weight_files import is_checkpoint, weight_sets
from pi0_jax.convert.keys.heads import UNKNOWN, DeclaredHeads
from pi0_jax.convert.sources.orbax_source import OrbaxSource, is_orbax
from pi0_jax.convert.sources.source import Source
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.convert.sources.torch_weights import ANY, Choice
from pi0_jax.errors import InputError


def open_any(
    path: Path,
    flags: DeclaredHeads = UNKNOWN,
    choice: Choice = ANY,
    horizon: int | None = None,
) -> Source:
    """Opens a policy folder, an official Orbax folder, any PyTorch layout, or a run with one.

    Args:
        path: folder or file.
        flags: head counts from the command line, for PyTorch layouts.
        choice: which weights are meant, for PyTorch layouts.
        horizon: actions per chunk; None for what the checkpoint says, or 50.

    Raises:
        InputError: it is none of these, or one list of everything that is wrong with it.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    found = checkpoint_below.find(path, _is_any) if path.is_dir() else None
    if found is None or not is_orbax(found[0]):
        return TorchSource(path, flags=flags, choice=choice, horizon=horizon)
    others = [str(weights.name) for weights in weight_sets(found[0])]
    if others:
        names = " or ".join([str(found[0] / "params"), *others])
        raise InputError(f"{path}: an Orbax folder and PyTorch weights; name one: {names}")
    return OrbaxSource(path, horizon)


def _is_any(folder: Path) -> bool:
    return is_orbax(folder) or is_checkpoint(folder)
