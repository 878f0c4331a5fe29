"""LIBERO's files of a task: instruction, goal and initial states. Never imports LIBERO.

`hf-libero` stores initial states as pickles, which are read here without running what they hold.
"""

import functools
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.env.robosuite.libero_package import package
from pi0_jax.env.robosuite.libero_suites import SUITES
from pi0_jax.errors import InputError
from pi0_jax.npz_file import read_arrays

# What a stored array needs of pickle, and all that it gets.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
_EXPECTED = "LIBERO's initial states"
# What zipfile and pickle raise on files that are cut, damaged or of another kind.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(StopIteration, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
)


def instruction(suite: str, task_name: str) -> str:
    """The benchmark's instruction for the policy.

    For LIBERO the words of the file's name: the goal file's own `(:language ...)` differs ("Pick
    the ..."), and published checkpoints were trained and are evaluated with the name (libero
    `benchmark/__init__.py`). LIBERO-PRO changes the words in the goal file alone, so its runner
    (`libero/evaluation/runner.py`) says what stands there, in small letters.

    Raises:
        InputError: a goal file has no instruction.
    """
    return _said(suite, task_name) if SUITES[suite].pro else _named(task_name)


def _named(task_name: str) -> str:
    words = task_name.split("_")
    # KITCHEN_SCENE3_turn_on_the_stove: a scene's name, in capitals, is not part of it.
    text = [word for word in words if not word.isupper() and not word.startswith("SCENE")]
    return " ".join(text)


@functools.cache
def _said(suite: str, task_name: str) -> str:
    path = goal_file(suite, task_name)
    found = re.search(r"\(:language ([^()]*)\)", path.read_text(encoding="utf-8"))
    if found is None:
        raise InputError(f"{path}: expected an instruction, (:language ...), found none")
    return " ".join(found[1].lower().split())


def goal_file(suite: str, task_name: str) -> Path:
    """The task's .bddl file."""
    return package() / "bddl_files" / suite / f"{task_name}.bddl"


def initial_states(suite: str, task_name: str) -> np.ndarray:
    """The benchmark's own initial states, float64[n, 1 + nq + nv]: time, qpos, qvel.

    Raises:
        InputError: there is no such file, or it contains anything but an array.
    """
    stem = package() / "init_files" / suite / f"{task_name}.pruned_init"
    plain = stem.with_name(f"{stem.name}.npz")
    path = plain if plain.is_file() else stem
    states = _plain(path) if path == plain else _pickled(path)
    if not isinstance(states, np.ndarray) or states.dtype != np.float64 or states.ndim != 2:
        raise InputError(f"{path}: expected float64[n, d], got {type(states).__name__}")
    return states


def _plain(path: Path) -> np.ndarray:
    arrays = read_arrays(path, _EXPECTED)
    if "states" not in arrays:
        raise InputError(f'{path}: expected {_EXPECTED}, got no array "states"')
    return arrays["states"]


def _pickled(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(name) as file:
                return _ArrayUnpickler(file).load()
    except _UNREADABLE as error:
        raise InputError(f"{path}: expected {_EXPECTED}, got: {error!r}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and nothing else: a file cannot run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """A function or class that the file asks for."""
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return super().find_class(module_name, global_name)

    def persistent_load(self, pid: Any) -> Any:
        """Nothing outside the pickle is read."""
        raise pickle.UnpicklingError(f"it asks for storage {pid!r}")
