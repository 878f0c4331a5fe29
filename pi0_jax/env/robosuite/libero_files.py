"""LIBERO's files on disk: task lists, goals, initial states and assets. Never imports LIBERO.

Importing `libero.libero` asks questions on the terminal and writes into the user's home, and its
initial states are pickles; so the files are found and read here.
"""

import functools
import importlib.util
import os
import pickle
import runpy
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.errors import InputError, first_line

ASSETS_VARIABLE = "LIBERO_ASSETS"
_INSTALL = "pip install torch==2.13.0 -e '.[libero]' (README has a smaller way)"
# What a stored array needs of pickle, and all that it gets.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
# What zipfile and pickle raise on files that are cut, damaged or of another kind.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, AttributeError, StopIteration),
    *(zipfile.BadZipFile, pickle.UnpicklingError),
)
# Folders that the scenes of every suite read.
_ASSET_FOLDERS = ("scenes", "textures")


@functools.cache
def package() -> Path:
    """The installed folder libero/libero.

    Raises:
        InputError: LIBERO is not installed.
    """
    spec = importlib.util.find_spec("libero")
    folders = list(spec.submodule_search_locations or []) if spec else []
    root = Path(folders[0]) / "libero" if folders else None
    if root is None or not (root / "bddl_files").is_dir():
        raise InputError(f"LIBERO is not installed: {_INSTALL}")
    return root


@functools.cache
def task_names(suite: str) -> tuple[str, ...]:
    """The tasks of a suite in the benchmark's order."""
    path = package() / "benchmark" / "libero_suite_task_map.py"
    return tuple(runpy.run_path(str(path))["libero_task_map"][suite])


def instruction(task_name: str) -> str:
    """The benchmark's instruction for the policy: the words of the file's name.

    The goal file's own `(:language ...)` differs ("Pick the ..."); published checkpoints were
    trained and are evaluated with this one (libero `benchmark/__init__.py`).
    """
    words = task_name.split("_")
    # KITCHEN_SCENE3_turn_on_the_stove: a scene's name, in capitals, is not part of it.
    text = [word for word in words if not word.isupper() and not word.startswith("SCENE")]
    return " ".join(text)


def goal_file(suite: str, task_name: str) -> Path:
    """The task's .bddl file."""
    return package() / "bddl_files" / suite / f"{task_name}.bddl"


def initial_states(suite: str, task_name: str) -> np.ndarray:
    """The benchmark's own initial states, float64[50, 1 + nq + nv]: time, qpos, qvel.

    Raises:
        InputError: there is no such file, or it contains anything but an array.
    """
    path = package() / "init_files" / suite / f"{task_name}.pruned_init"
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(name) as file:
                states = _ArrayUnpickler(file).load()
    except _UNREADABLE as error:
        raise InputError(f"{path}: expected LIBERO's initial states, got: {error!r}") from error
    if not isinstance(states, np.ndarray) or states.dtype != np.float64 or states.ndim != 2:
        raise InputError(f"{path}: expected float64[n, d], got {type(states).__name__}")
    return states


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


def assets(configured: str) -> Path:
    """The folder of meshes, textures and scenes.

    Args:
        configured: a folder, or empty for the environment variable LIBERO_ASSETS, else the
            package's own folder, else the package's own download (about 0.5 GB, once).

    Raises:
        InputError: there is none; the message says every way to get one.
    """
    return local_assets(configured) or _download()


def local_assets(configured: str = "") -> Path | None:
    """As `assets`, but None in place of a download."""
    if chosen := configured or os.environ.get(ASSETS_VARIABLE, ""):
        return _checked(Path(chosen).expanduser().resolve())
    # The second is where LIBERO's own download script puts them.
    for folder in (package() / "assets", Path.home() / ".cache" / "libero" / "assets"):
        if folder.is_dir():
            return _checked(folder)
    return None


def _checked(folder: Path) -> Path:
    missing = [name for name in _ASSET_FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise InputError(
            f"LIBERO assets: expected a folder with {', '.join(_ASSET_FOLDERS)}, got {folder} "
            f"without {', '.join(missing)}; set config.task.assets or {ASSETS_VARIABLE}"
        )
    return folder


def _download() -> Path:
    """The package's own download into the cache of huggingface_hub."""
    try:
        from huggingface_hub import snapshot_download

        sys.stderr.write("LIBERO assets: downloading lerobot/libero-assets from the hub\n")
        return _checked(Path(snapshot_download("lerobot/libero-assets", repo_type="dataset")))
    # The hub's library raises its own, requests' and the system's errors, all meaning the same.
    except Exception as error:
        raise InputError(
            f"LIBERO assets: none at hand and the download failed ({first_line(error)}). Name a "
            f"folder that has them with --config.task.assets=FOLDER or {ASSETS_VARIABLE}=FOLDER, "
            "or run once where the Hugging Face hub can be reached"
        ) from error
