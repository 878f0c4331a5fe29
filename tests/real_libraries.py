"""An environment with the newest lerobot, made by the test that needs it.

lerobot wants Python 3.12 and, with its PyTorch for CUDA, 5 GB: it is installed only on request,
into the folder that PI0_JAX_REAL_LIBRARIES names, and found there again by the next run.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from skips import NO_PYTHON_312, NO_REGISTRY, NOT_ASKED_FOR

WANTED = "lerobot[dataset,pi]"
_PYTHONS = ("python3.12", "python3.13")


def lerobot_python() -> Path:
    """Python of an environment that has lerobot; skips the test where there can be none."""
    named = os.environ.get("PI0_JAX_REAL_LIBRARIES")
    if not named:
        pytest.skip(NOT_ASKED_FOR)
    folder = Path(named).expanduser().resolve()
    python = folder / "bin/python"
    if not (folder / "installed").is_file():
        _install(folder, python)
    return python


def _install(folder: Path, python: Path) -> None:
    subprocess.run([_python_312(), "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    # The small package alone tells whether there is a registry.
    if subprocess.run([*pip, "--no-deps", WANTED.partition("[")[0]]).returncode:
        pytest.skip(NO_REGISTRY)
    subprocess.run([*pip, WANTED], check=True)
    (folder / "installed").touch()


def _python_312() -> str:
    """A Python that lerobot takes; one of pyenv's may be there without being in use."""
    found = [shutil.which(name) for name in _PYTHONS]
    found += sorted(map(str, Path.home().glob(".pyenv/versions/3.1[23]*/bin/python")))
    for path in filter(None, found):
        # A shim of pyenv is there for versions that are not in use, and fails.
        if not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    pytest.skip(NO_PYTHON_312)
