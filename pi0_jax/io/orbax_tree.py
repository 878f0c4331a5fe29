"""Parameter trees on disk in the official layout: the one file that knows Orbax.

Orbax saves and restores whole trees only, and on a full disk or a damaged folder its threads print
hundreds of lines. `TreeReader` and `TreeWriter` move one layer at a time, for trees that do not fit
in memory twice, and tell a fault in one line. They use TensorStore, the library below Orbax, in the
format that Orbax writes: an OCDBT store of Zarr 2 arrays named by dotted paths, and `_METADATA`,
which lists them.
"""

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from pi0_jax.errors import InputError, first_line
from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.json_file import read_object
from pi0_jax.plain_file import MOST_BYTES, check_file

Tree = Any

# Orbax's name for a dict key in a tree path.
_DICT_KEY = 2
_OCDBT = "manifest.ocdbt"
_DESCRIBE = (_OCDBT, ".zarray", "zarr.json")
_LARGEST = 2**36  # bytes of a file of values; TensorStore ends the process where they do not fit
_CHUNK_BYTES = 128 * 2**20
_OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")


def save_tree(path: Path, tree: Tree) -> None:
    """Writes a tree of arrays as one Orbax folder, which is whole when this returns.

    Args:
        path: folder to make; must not exist.
        tree: nested dicts of arrays, on host or device.

    Raises:
        OSError: the disk is full, or the like.
    """
    with TreeWriter(path) as writer:
        for name, leaf in leaves_by_path(tree).items():
            values = np.asarray(leaf)
            writer.create(name, values.shape, values.dtype.name, layered=False)
            writer.write(name, values)


def load_tree(path: Path) -> Tree:
    """Reads an Orbax folder as nested dicts of host arrays, whatever mesh it was saved on.

    Raises:
        InputError: the folder is missing, or damaged.
    """
    # Not by Orbax: on a damaged folder its threads print hundreds of lines.
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
            metadata = read_object(path / "_METADATA")
            _check_files(path)
            entries = metadata["tree_metadata"].values()
            # An empty dict has an entry too, but no array.
            names = [_names(e) for e in entries if not e["value_metadata"].get("skip_deserialize")]
            driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
            ocdbt = _is_ocdbt(path)
            # Older versions of Orbax left out chunks of zeros. Otherwise a chunk that is not there
            # is lost, which OCDBT notices by itself.
            fill = ocdbt and not metadata.get("store_array_data_equal_to_fill_value")
            self._arrays = {"/".join(n): _open(path, n, driver, ocdbt, fill) for n in names}
        except FileNotFoundError as error:
            raise InputError(f"{path}: expected an Orbax folder (with _METADATA)") from error
        except InputError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
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
            # Stored in one piece, as one host saves it: reading any layer reads all of it. So the
            # last leaf stays in memory for its other layers.
            with self._lock:
                if self._held_name != name:
                    # Frees the earlier leaf before the next is read: two may not fit.
                    self._held = np.empty(0)
                    self._held_name, self._held = name, array.read().result()
                return self._held[layer].copy()
        except (ValueError, OSError) as error:
            raise InputError(f"{self.path}: cannot read {name}: {_line(error)}") from error


@dataclass(frozen=True)
class Write:
    """A write under way.

    Attributes:
        path: the folder that is written.
        future: TensorStore's.
    """

    path: Path
    future: ts.Future

    def done(self) -> bool:
        """Whether it has ended."""
        return self.future.done()

    def result(self) -> None:
        """Waits for its end.

        Raises:
            OSError: the disk is full, or the like.
        """
        with _as_os_error(self.path):
            self.future.result()


class TreeWriter:
    """Writes an Orbax folder layer by layer; `load_tree` and Orbax read it like any other.

    The folder is complete when the writer closes without an error.
    """

    def __init__(self, path: Path):
        """Makes the folder."""
        path.mkdir(parents=True)
        self._path = path
        self._arrays: dict[str, ts.TensorStore] = {}
        self._writes: list[Write] = []
        # Without fsync, chunk by chunk: `atomic_folder` waits for the disk once, for all files.
        self._context = ts.Context({"file_io_sync": False})

    def create(self, name: str, shape: tuple[int, ...], dtype: str, *, layered: bool) -> None:
        """Declares a leaf.

        Args:
            name: slash-joined path, such as "params/state_proj/bias".
            shape: shape of the whole leaf.
            dtype: name of its dtype.
            layered: whether the first axis is written, and later read, entry by entry.
        """
        spec = _spec(self._path, name.split("/"), "zarr", ocdbt=True)
        # Trained weights hardly compress, and compressing takes longer than writing.
        spec["metadata"] = {
            "shape": shape,
            "chunks": _chunks(shape, np.dtype(dtype).itemsize, layered),
            "dtype": "bfloat16" if dtype == "bfloat16" else np.dtype(dtype).str,
            "compressor": None,
        }
        opening = ts.open(spec, create=True, context=self._context)
        self._writes.append(Write(self._path, opening))
        with _as_os_error(self._path):
            self._arrays[name] = opening.result()

    def write(self, name: str, values: np.ndarray, layer: int | None = None) -> Write:
        """Starts writing a leaf, or one entry of its first axis.

        Args:
            name: as in `create`.
            values: the values; they must not change before the write is done.
            layer: entry of the first axis; None for the whole leaf.

        Returns:
            The write; its `result()` waits for it and raises its error.
        """
        array = self._arrays[name]
        commit = (array if layer is None else array[layer]).write(values).commit
        # One that failed is kept, for `__exit__` to tell.
        going = [one for one in self._writes if not one.done() or one.future.exception()]
        write = Write(self._path, commit)
        self._writes = [*going, write]
        return write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # Without _METADATA an unfinished folder cannot be mistaken for a whole one.
        if error is not None:
            # A write in the background would put files back into a folder that is being removed.
            for write in self._writes:
                write.future.exception()
            return
        # Its error, if one failed that nobody waited for.
        for write in self._writes:
            write.result()
        tree = {str(tuple(name.split("/"))): _entry(name) for name in self._arrays}
        metadata = {
            "tree_metadata": tree,
            "use_ocdbt": True,
            "use_zarr3": False,
            "store_array_data_equal_to_fill_value": True,
            "custom_metadata": None,
        }
        (self._path / "_METADATA").write_text(json.dumps(metadata))
        # Orbax asks this file which handler restores the folder.
        handler = f"{ocp.PyTreeCheckpointHandler.__module__}.{ocp.PyTreeCheckpointHandler.__name__}"
        now = time.time_ns()
        stamp = {"init_timestamp_nsecs": now, "commit_timestamp_nsecs": now}
        (self._path / "_CHECKPOINT_METADATA").write_text(
            json.dumps({"item_handlers": handler, **stamp, "custom_metadata": {}})
        )


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Tells a fault of the disk as Python does; TensorStore has its number in the message."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _check_files(path: Path) -> None:
    """Checks what TensorStore does not: that no file makes it wait for ever or fill the memory.

    Raises:
        InputError: one would.
    """
    for file in path.rglob("*"):
        check_file(file, MOST_BYTES if file.name in _DESCRIBE else _LARGEST)


def _names(entry: dict[str, Any]) -> list[str]:
    return [str(key["key"]) for key in entry["key_metadata"]]


def _entry(name: str) -> dict[str, Any]:
    keys = [{"key": key, "key_type": _DICT_KEY} for key in name.split("/")]
    value = {"value_type": "np.ndarray", "skip_deserialize": False}
    return {"key_metadata": keys, "value_metadata": value}


def _open(path: Path, names: list[str], driver: str, ocdbt: bool, fill: bool) -> ts.TensorStore:
    spec = _spec(path, names, driver, ocdbt=ocdbt) | {"fill_missing_data_reads": fill}
    return ts.open(spec, read=True).result()


def _is_ocdbt(path: Path) -> bool:
    """Whether the arrays lie in one OCDBT store.

    Raises:
        InputError: they lie in one per process, which Orbax merges at the end of a save.
    """
    if (path / _OCDBT).exists():
        return True
    if any(path.glob("ocdbt.process_*")):
        raise InputError(
            f"{path}: saving was interrupted: the parts of its processes (ocdbt.process_*) were "
            "never merged into one store; take an earlier step, or copy the folder again"
        )
    return False


def _spec(path: Path, names: list[str], driver: str, *, ocdbt: bool) -> dict[str, Any]:
    """TensorStore's spec of a tree path's array; without OCDBT every array is a folder."""
    base, name = f"{path.absolute()}/", ".".join(names)
    if ocdbt:
        # Not as a URL, in which "%41" is "A" and "#" or "?" ends the path.
        folder = {"driver": "file", "path": base}
        store: dict[str, Any] = {"driver": "ocdbt", "base": folder, "path": f"{name}/"}
    else:
        store = {"driver": "file", "path": f"{base}{name}/"}
    return {"driver": driver, "kvstore": store}


def _chunks(shape: tuple[int, ...], itemsize: int, layered: bool) -> list[int]:
    """Chunk shape: one layer if `layered`, else rows of at most 128 MiB in all."""
    if not shape:
        return []
    row = max(1, math.prod(shape[1:]) * itemsize)
    rows = 1 if layered else max(1, min(shape[0], _CHUNK_BYTES // row))
    return [rows, *shape[1:]]


def _line(error: Exception) -> str:
    """The first sentence of a TensorStore error, without TensorStore's own source lines."""
    return first_line(error).split(" [")[0]
