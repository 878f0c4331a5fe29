"""Sources on other machines: hf://org/name and gs://bucket/path, fetched into a local cache."""

import importlib
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pi0_jax.errors import InputError, first_line
from pi0_jax.io.atomic import atomic_folder

CACHE = Path.home() / ".cache" / "pi0_jax"
# What a policy needs. Optimizer state, most of a training checkpoint, is not fetched.
_WEIGHTS = ("*.json", "*.safetensors", "*.bin", "*.pt", "*.model", "params/*", "assets/*")
# The package that fsspec needs per scheme; each installs fsspec too.
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}


def local(source: str) -> Path:
    """Path of a source on this machine; a remote one is fetched once.

    Args:
        source: a path, hf://org/name, or a URL that fsspec understands, such as gs://bucket/path.

    Raises:
        InputError: no such place, or a library or the network is missing.
    """
    if source.startswith("hf://"):
        return _from_hub(source)
    if "://" in source:
        return _from_bucket(source)
    if not source:
        raise InputError("SRC is empty; expected a path, gs://... or hf://org/name")
    return Path(source).expanduser()


def _from_hub(source: str) -> Path:
    name = source.removeprefix("hf://").strip("/")
    if name.count("/") != 1:
        raise InputError(f"{source}: expected hf://org/name")
    # The hub's own library keeps the files in its own cache, which other programs share.
    hub = _library("huggingface_hub", source, "huggingface_hub")
    _message(f"fetching {source}")
    try:
        return Path(
            hub.snapshot_download(
                name, allow_patterns=list(_WEIGHTS), ignore_patterns=["optimizer*", "train_state/*"]
            )
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise InputError(f"{source}: cannot fetch: {first_line(error)}") from error


def _from_bucket(source: str) -> Path:
    scheme, _, path = source.partition("://")
    package = _PACKAGES.get(scheme, "fsspec")
    fsspec = _library("fsspec", source, package)
    # One flat name per URL. With nested folders, a part that was fetched before would be taken
    # for the whole.
    target = CACHE / scheme / quote(path.strip("/"), safe="")
    if target.exists():
        return target
    try:
        # Only a complete fetch gets the name that later commands trust.
        with atomic_folder(target) as partial:
            _fetch(fsspec, source, partial)
    except ImportError as error:
        raise InputError(f"{source}: needs {package}: pip install {package}") from error
    except InputError:
        raise
    # Backends of fsspec raise whatever their own libraries raise.
    except Exception as error:
        raise InputError(f"{source}: cannot fetch: {first_line(error)}") from error
    return target


def _fetch(fsspec: Any, source: str, folder: Path) -> None:
    """Copies the files of a bucket's path into a folder.

    Raises:
        InputError: there are none.
    """
    files, root = fsspec.core.url_to_fs(source)
    found = [file for file in files.find(root) if "/train_state/" not in file]
    if not found:
        raise InputError(f"{source}: nothing there")
    for i, file in enumerate(found, 1):
        _message(f"fetching {source}: file {i} of {len(found)}")
        inside = folder / file.removeprefix(root).strip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(file, str(inside))


def _library(name: str, source: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{source}: needs {package}: pip install {package}") from error


def _message(text: str) -> None:
    sys.stderr.write(text + "\n")
