"""Opens a checkpoint of any layout."""

from pathlib import Path

from pi0_jax.convert.heads import UNKNOWN, DeclaredHeads
from pi0_jax.convert.orbax_source import OrbaxSource
from pi0_jax.convert.source import Source
from pi0_jax.convert.torch_source import TorchSource
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import PARAMS


def open_any(path: Path, flags: DeclaredHeads = UNKNOWN, horizon: int | None = None) -> Source:
    """Opens a policy folder, an official Orbax folder, or any PyTorch layout.

    Args:
        path: folder or file.
        flags: head counts from the command line, for PyTorch layouts.
        horizon: actions per chunk; None for what the checkpoint says, or 50.

    Raises:
        InputError: it is none of these, or one list of everything that is wrong with it.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    # Only an Orbax folder has one of these: params/ itself, a policy or step folder, a save.
    marks = [path / "_METADATA", path / PARAMS, path / "train_state"]
    if any(mark.exists() for mark in marks):
        return OrbaxSource(path, horizon)
    return TorchSource(path, flags=flags, horizon=horizon)
