"""The tensors of a PyTorch checkpoint on disk, read one by one: safetensors or pickles, sharded.

Pickles are read by `torch.load(weights_only=True)` only: code in them is refused, not run.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from pi0_jax.convert import safetensors_file
from pi0_jax.errors import InputError, first_line

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth")
_PICKLES = (".pt", ".pth", ".bin")
# Beginnings of names that hold no weights: lerobot's statistics, and files of training scripts.
_NO_WEIGHTS = ("policy_", "optimizer", "metadata", "scheduler", "training_args")
# A training script may wrap the state dict in one of these.
_WRAPPERS = ("model", "state_dict", "model_state_dict")


class Tensors(Protocol):
    """Named tensors. Shapes and dtypes are known at once, values when they are read.

    Attributes:
        files: all files that hold them.
        shapes: key to shape.
        dtypes: key to dtype name.
        metadata: strings that the writer put into the files.
    """

    files: list[Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    metadata: dict[str, str]

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor."""
        ...


class Safetensors:
    """`Tensors` of one or more safetensors files."""

    def __init__(self, files: list[Path]):
        """Reads the headers."""
        self.files = files
        self._entries, self.metadata = safetensors_file.open_all(files)
        self.shapes = {key: entry.shape for key, entry in self._entries.items()}
        self.dtypes = {key: entry.dtype.name for key, entry in self._entries.items()}

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor."""
        return safetensors_file.read(self._entries[key])


class Pickled:
    """`Tensors` of one or more files by `torch.save`."""

    def __init__(self, files: list[Path]):
        """Maps the files into memory; the tensors stay on disk until read."""
        self.files = files
        self.metadata: dict[str, str] = {}
        self._tensors: dict[str, Any] = {}
        for file in files:
            self._tensors |= _unpickle(file)
        self.shapes = {key: tuple(t.shape) for key, t in self._tensors.items()}
        self.dtypes = {key: str(t.dtype).removeprefix("torch.") for key, t in self._tensors.items()}

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor."""
        tensor = self._tensors[key].detach()
        if self.dtypes[key] == "bfloat16":
            import torch

            # torch cannot give bfloat16 to NumPy. The bits are the same as two-byte integers.
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


def open_tensors(path: Path) -> Tensors:
    """Opens a checkpoint folder, or one file of it.

    Raises:
        InputError: nothing holds weights there, or a file is damaged or unsafe.
    """
    files = weight_files(path)
    pickled = [file for file in files if file.suffix in _PICKLES]
    if not pickled:
        return Safetensors(files)
    return Pickled(files)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights.

    Raises:
        InputError: no such path, no weights, several candidates, or a missing shard.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.name in _INDEXES:
        return _shards(path)
    if path.is_file():
        return [path]
    # An index first: a folder with shards may hold an older single file too.
    for name in _INDEXES:
        if (path / name).is_file():
            return _shards(path / name)
    for name in _SINGLES:
        if (path / name).is_file():
            return [path / name]
    # A file under its own name is accepted if there is one only; a choice would be a guess.
    others = [
        child
        for child in path.iterdir()
        if child.suffix in (".safetensors", *_PICKLES) and not child.name.startswith(_NO_WEIGHTS)
    ]
    if len(others) == 1:
        return others
    raise InputError(f"{path}: {_nothing(path)}")


def _nothing(path: Path) -> str:
    expected = f"expected PyTorch weights ({', '.join(_SINGLES[:2])} or an index.json of shards)"
    if (path / "params").is_dir() or (path / "_METADATA").is_file():
        return f"{expected}, found an Orbax folder; use `python -m convert.jax_to_flax`"
    there = sorted(child.name for child in path.iterdir())
    return f"{expected}, found {', '.join(there[:8]) if there else 'an empty folder'}"


def _shards(index: Path) -> list[Path]:
    try:
        weight_map: Mapping[str, str] = json.loads(index.read_text())["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: expected an index with a weight_map: {error}") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(f"{index.parent}: shards are missing: {', '.join(missing)}")
    return [index.parent / name for name in names]


def _unpickle(file: Path) -> dict[str, Any]:
    # torch is no dependency: only pickles need it.
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{file}: reading pickles needs torch: pip install torch") from error
    try:
        # mmap leaves the values on disk until they are read.
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"{file}: refused: not a plain file of tensors (it is damaged, or holds code): "
            f"{first_line(error)}"
        ) from error
    for name in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(torch.is_tensor(x) for x in loaded.values()):
        raise InputError(f"{file}: expected a dict of tensors (a state dict)")
    return loaded
