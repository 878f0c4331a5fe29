"""Parameter trees on disk in the official layout: the one file that knows Orbax.

Orbax itself saves whole trees. `TreeReader` and `TreeWriter` can move one layer at a time, for
trees that do not fit in memory twice: Orbax takes and gives whole trees only, so they speak to
TensorStore, the library below it, in the format that Orbax writes (an OCDBT store of Zarr 2 arrays
named by dotted paths, and `_METADATA` that lists them).
"""

import contextlib
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from pi0_jax.errors import InputError

Tree = Any

# Orbax's name for a dict key in a tree path.
_DICT_KEY = 2
_CHUNK_BYTES = 128 * 2**20


@contextlib.contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `path` that takes its name when the block ends without an error.

    Args:
        path: folder to make, with its parents.
        overwrite: replace what is there, if pi0_jax wrote it (it has a manifest.json).

    Yields:
        The folder to fill. After an error nothing of it is left, and `path` is as it was.

    Raises:
        InputError: `path` exists and may not be replaced.
    """
    check_free(path, overwrite=overwrite)
    # A link stays; what it points at is replaced. It also gives "." and ".." a name.
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    # Names that no user gives to a backup of his own.
    partial, old = (path.with_name(f".{path.name}.pi0_jax-{end}") for end in ("partial", "old"))
    # What a killed process left; nobody reads it.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace(path, partial, old)
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
            # Another process may have put something into a parent meanwhile.
            with contextlib.suppress(OSError):
                for parent in made:
                    parent.rmdir()


def _replace(path: Path, new: Path, old: Path) -> None:
    """Gives `new` the name `path`; what has it steps aside first, for a moment, as `old`."""
    if not path.exists():
        new.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        new.rename(path)
    finally:
        if not path.exists():
            old.rename(path)
    shutil.rmtree(old)


def check_space(path: Path, size: int) -> None:
    """The disk has room, which is said before the work instead of in the middle of it.

    Args:
        path: what is to be written; it and its parents need not exist.
        size: bytes.

    Raises:
        InputError: too little is free.
    """
    free = free_bytes(path)
    if free < size:
        raise InputError(f"{path}: needs {size / 1e9:.1f} GB, the disk has {free / 1e9:.1f} free")


def check_free(path: Path, *, overwrite: bool) -> None:
    """A folder may be made here.

    Raises:
        InputError: it may not, with the reason.
    """
    check_writable(path)
    if not path.exists():
        return
    if not overwrite:
        raise InputError(f"{path}: exists already; remove it or choose another folder")
    if path.is_file() or (any(path.iterdir()) and not (path / "manifest.json").is_file()):
        raise InputError(
            f"{path}: was not written by pi0_jax (no manifest.json), so it is not overwritten; "
            "choose another folder"
        )


def free_bytes(path: Path) -> int:
    """Free disk where a path is, or would be made."""
    places = (path, *path.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.exists())).free


def check_writable(path: Path) -> None:
    """Something may be made under this name, which is said before the work.

    Raises:
        InputError: it lies in a file, behind a dead link, or where this user may not write.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to {path.readlink()}, which does not exist")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: you may not write in {above}; choose another place")


def save_tree(path: Path, tree: Tree) -> None:
    """Writes a tree of arrays as one Orbax folder; it appears under its name only when whole.

    Args:
        path: folder to make; must not exist.
        tree: nested dicts of arrays.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), jax.tree.map(np.asarray, tree))


def load_tree(path: Path) -> Tree:
    """Reads an Orbax folder as nested dicts of host arrays, whatever mesh it was saved on.

    Raises:
        InputError: the folder is missing, or damaged.
    """
    # Not by Orbax: on a damaged folder it prints hundreds of lines from threads of its own.
    return nest(TreeReader(path).read_all())


def load_shapes(path: Path) -> Tree:
    """Shapes and dtypes of an Orbax folder as nested dicts; reads no values.

    Raises:
        InputError: the folder is missing, or damaged.
    """
    reader = TreeReader(path)
    return nest(
        {
            name: jax.ShapeDtypeStruct(shape, np.dtype(reader.dtypes[name]))
            for name, shape in reader.shapes.items()
        }
    )


def nest(flat: Mapping[str, Any]) -> Tree:
    """Slash-joined paths to nested dicts."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return tree


class TreeReader:
    """Reads an Orbax folder leaf by leaf, or layer by layer where it is stored in layers.

    Attributes:
        path: the folder.
        shapes: slash-joined path of each leaf to its shape, as in "params/state_proj/bias".
        dtypes: the same to the dtype's name, as in "bfloat16".
    """

    def __init__(self, path: Path):
        """Opens every array; reads no values.

        Raises:
            InputError: no Orbax folder, or one that is damaged.
        """
        self.path = path
        try:
            metadata = json.loads((path / "_METADATA").read_text())
            entries = metadata["tree_metadata"].values()
            # An empty dict has an entry too, but no array.
            names = [_names(e) for e in entries if not e["value_metadata"].get("skip_deserialize")]
            driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
            self._arrays = {"/".join(n): _open(path, n, driver) for n in names}
        except FileNotFoundError as error:
            raise InputError(f"{path}: expected an Orbax folder (with _METADATA)") from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{path}: cannot read this Orbax folder: {_line(error)}") from error
        self.shapes = {name: tuple(array.shape) for name, array in self._arrays.items()}
        self.dtypes = {name: array.dtype.name for name, array in self._arrays.items()}
        self._lock = threading.Lock()
        self._held_name, self._held = "", np.empty(0)

    def read_all(self) -> dict[str, np.ndarray]:
        """Every leaf by its path, all read at the same time.

        Raises:
            InputError: the stored bytes are damaged.
        """
        reading = {name: array.read() for name, array in self._arrays.items()}
        found = {}
        for name, future in reading.items():
            try:
                found[name] = future.result()
            except (ValueError, OSError) as error:
                raise InputError(f"{self.path}: cannot read {name}: {_line(error)}") from error
        return found

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """One leaf, or one entry of its first axis.

        Raises:
            InputError: the stored bytes are damaged.
        """
        array = self._arrays[name]
        try:
            if layer is None:
                return array.read().result()
            chunk = array.chunk_layout.read_chunk.shape
            if chunk is not None and chunk[0] == 1:
                return array[layer].read().result()
            # StoredLeaf in one piece (as one host saves it): every layer would unpack all of it, so
            # the last leaf stays in memory.
            with self._lock:
                if self._held_name != name:
                    self._held = np.empty(0)
                    self._held_name, self._held = name, array.read().result()
                return self._held[layer].copy()
        except (ValueError, OSError) as error:
            raise InputError(f"{self.path}: cannot read {name}: {_line(error)}") from error


class TreeWriter:
    """Writes an Orbax folder layer by layer; `load_tree` and Orbax read it as any other.

    The folder is complete when the writer closes without an error.
    """

    def __init__(self, path: Path):
        """Makes the folder."""
        path.mkdir(parents=True)
        self._path = path
        self._arrays: dict[str, ts.TensorStore] = {}
        # A plain copy of a file does not wait for the disk either.
        self._context = ts.Context({"file_io_sync": False})

    def create(self, name: str, shape: tuple[int, ...], dtype: str, *, layered: bool) -> None:
        """Declares a leaf.

        Args:
            name: slash-joined path, such as "params/state_proj/bias".
            shape: of the whole leaf.
            dtype: its name.
            layered: the first axis is written, and later read, entry by entry.
        """
        spec = _spec(self._path, name.split("/"), "zarr", ocdbt=True)
        # Trained weights hardly compress, and packing would take longer than writing.
        spec["metadata"] = {
            "shape": shape,
            "chunks": _chunks(shape, np.dtype(dtype).itemsize, layered),
            "dtype": "bfloat16" if dtype == "bfloat16" else np.dtype(dtype).str,
            "compressor": None,
        }
        self._arrays[name] = ts.open(spec, create=True, context=self._context).result()

    def write(self, name: str, values: np.ndarray, layer: int | None = None) -> ts.Future:
        """Starts writing a leaf, or one entry of its first axis; the values must stay as they are.

        Returns:
            A future; its `result()` waits for the write and raises what went wrong.
        """
        array = self._arrays[name]
        return (array if layer is None else array[layer]).write(values).commit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        tree = {str(tuple(name.split("/"))): _entry(name) for name in self._arrays}
        metadata = {
            "tree_metadata": tree,
            "use_ocdbt": True,
            "use_zarr3": False,
            "store_array_data_equal_to_fill_value": True,
            "custom_metadata": None,
        }
        (self._path / "_METADATA").write_text(json.dumps(metadata))
        handler = f"{ocp.PyTreeCheckpointHandler.__module__}.{ocp.PyTreeCheckpointHandler.__name__}"
        now = time.time_ns()
        stamp = {"init_timestamp_nsecs": now, "commit_timestamp_nsecs": now}
        (self._path / "_CHECKPOINT_METADATA").write_text(
            json.dumps({"item_handlers": handler, **stamp, "custom_metadata": {}})
        )


def _names(entry: dict[str, Any]) -> list[str]:
    return [str(key["key"]) for key in entry["key_metadata"]]


def _entry(name: str) -> dict[str, Any]:
    keys = [{"key": key, "key_type": _DICT_KEY} for key in name.split("/")]
    value = {"value_type": "np.ndarray", "skip_deserialize": False}
    return {"key_metadata": keys, "value_metadata": value}


def _open(path: Path, names: list[str], driver: str) -> ts.TensorStore:
    spec = _spec(path, names, driver, ocdbt=(path / "manifest.ocdbt").exists())
    return ts.open(spec, read=True).result()


def _spec(path: Path, names: list[str], driver: str, *, ocdbt: bool) -> dict[str, Any]:
    """Where Orbax keeps the array of a tree path; without OCDBT every array is a folder."""
    base, name = f"{path.absolute()}/", ".".join(names)
    if ocdbt:
        store: dict[str, Any] = {"driver": "ocdbt", "base": f"file://{base}", "path": f"{name}/"}
    else:
        store = {"driver": "file", "path": f"{base}{name}/"}
    return {"driver": driver, "kvstore": store}


def _chunks(shape: tuple[int, ...], itemsize: int, layered: bool) -> list[int]:
    """Pieces of one layer, or of at most 128 MiB."""
    if not shape:
        return []
    row = max(1, math.prod(shape[1:]) * itemsize)
    rows = 1 if layered else max(1, min(shape[0], _CHUNK_BYTES // row))
    return [rows, *shape[1:]]


def _line(error: Exception) -> str:
    """The first sentence of a TensorStore error, which goes on with its own source lines."""
    return str(error).split(" [")[0].splitlines()[0]
