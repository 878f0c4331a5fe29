"""The tensors of a PyTorch checkpoint on disk, read one by one: safetensors or pickles, sharded.

Pickles are read by `torch.load(weights_only=True)` only: code in them is refused, not run.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from pi0_jax.convert.files import containers, safetensors_file
from pi0_jax.errors import InputError, first_line
from pi0_jax.optional import needed
from pi0_jax.plain_file import check_file

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
# What torch.load raises for a file that it cannot read.
_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    KeyError,
    TypeError,
)
# How torch names the class or function that it refuses to call.
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


class Tensors(Protocol):
    """Named tensors. Shapes and dtypes are known at once, values when they are read.

    Attributes:
        files: all files that hold them.
        shapes: key to shape.
        dtypes: key to dtype name.
        metadata: strings that the writer put into the files.
        beside: names of what lies in the files beside tensors; none of it changes a policy.
    """

    files: list[Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    metadata: dict[str, str]
    beside: list[str]

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
        self.beside: list[str] = []

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor."""
        return safetensors_file.read(self._entries[key])


class Pickled:
    """`Tensors` of files by `torch.save`; a name has its containers, as in `ema/a.weight`."""

    def __init__(self, files: list[Path]):
        """Maps the files into memory; the tensors stay on disk until read."""
        self.files = files
        self.metadata: dict[str, str] = {}
        self.beside: list[str] = []
        self._tensors: dict[str, Any] = {}
        for file in files:
            found = _unpickle(file)
            twice = sorted(self._tensors.keys() & found.tensors.keys())
            if twice:
                raise InputError(f"{file}: keys are in another shard too: {', '.join(twice)}")
            _check_dense(found.tensors, file)
            self._tensors |= found.tensors
            self.beside += found.beside
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


def open_tensors(files: list[Path]) -> Tensors:
    """Opens the files of one set of weights, all of one kind.

    Raises:
        InputError: a file is damaged or unsafe.
    """
    pickled = [file for file in files if file.suffix in _PICKLES or _is_pickle(file)]
    return Pickled(files) if pickled else Safetensors(files)


def _is_pickle(file: Path) -> bool:
    """Whether a file without a known ending, such as one in the hub's cache, is by `torch.save`."""
    if file.suffix == ".safetensors":
        return False
    with file.open("rb") as opened:
        # A pickle begins with its protocol.
        return zipfile.is_zipfile(file) or opened.read(1) == b"\x80"


def _unpickle(file: Path) -> containers.Contents:
    # torch is no dependency: only pickles need it.
    with needed(f"{file}: a pickle", "pip install torch"):
        import torch
    check_file(file)
    # In a file by torch 1.6 or later, which is a zip archive, mmap leaves the values on disk until
    # they are read.
    mmap = zipfile.is_zipfile(file)
    try:
        # Its warnings are about the format; what cannot be read is an error here.
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except _DAMAGED as error:
        raise InputError(f"{file}: refused: {_cause(error)}") from error
    return containers.flatten(loaded, file)


def _check_dense(tensors: dict[str, Any], file: Path) -> None:
    """Checks that every tensor has all its values.

    Raises:
        InputError: one is sparse, or was saved without values (device "meta").
    """
    for key, tensor in tensors.items():
        if tensor.is_meta or str(tensor.layout) != "torch.strided":
            what = "has no values (device meta)" if tensor.is_meta else f"is {tensor.layout}"
            raise InputError(f"{file}: {key} {what}; save the weights as dense tensors on a CPU")


def _cause(error: Exception) -> str:
    """Why a file could not be read, in words of ours: torch's have colours and its own advice."""
    text = str(error)
    if match := _GLOBAL.search(text):
        return (
            f"it holds Python objects ({match[1]}), which are code and are not unpickled; save the "
            "weights alone: torch.save(model.state_dict(), 'model.pt')"
        )
    if isinstance(error, pickle.UnpicklingError) and "nsupported" in text:
        return "it holds code, which is not unpickled; save the weights alone with torch.save"
    # Its first sentence; the others are advice of torch's own.
    first = first_line(error).split(". ")[0]
    return f"it is damaged, cut short or not by torch.save ({first}); fetch it again"
