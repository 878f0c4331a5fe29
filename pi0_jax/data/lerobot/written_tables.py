"""Tables of a LeRobot folder that is written: rows of episodes, features of columns, tasks.

Axis letters: t control step, d dimension.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.data.lerobot.tables import pyarrow
from pi0_jax.robot import Dimension


class EpisodeTable:
    """One file of data/: a row group per episode, so that one can be read without the others."""

    def __init__(self, path: Path, number: int) -> None:
        self.number, self.bytes = number, 0
        self._path, self._writer = path, None

    def add(self, columns: Mapping[str, Any], pictures: Mapping[str, list[bytes]]) -> None:
        """Appends an episode."""
        pa, pq = pyarrow()
        arrays = {name: _array(values) for name, values in columns.items()}
        struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        for camera, images in pictures.items():
            rows = [{"bytes": image, "path": None} for image in images]
            arrays[camera] = pa.array(rows, struct)
            self.bytes += sum(map(len, images))
        table = pa.table(arrays)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Of a picture, the smallest and the largest bytes say nothing and take kilobytes.
            described = [name for name in table.column_names if name not in pictures]
            self._writer = pq.ParquetWriter(self._path, table.schema, write_statistics=described)
        self._writer.write_table(table)

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()


def _array(values: Any) -> Any:
    """A column as pyarrow's: numbers, lists of one length, or texts."""
    pa, _ = pyarrow()
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(values)


def feature(values: Any, dimensions: tuple[Dimension, ...] | None) -> dict[str, Any]:
    """What meta/info.json says of a column."""
    if isinstance(values[0], str):
        return {"dtype": "string", "shape": [1], "names": None}
    shape = list(values.shape[1:]) or [1]
    names = [dimension.name for dimension in dimensions] if dimensions else None
    return {"dtype": str(values.dtype), "shape": shape, "names": names}


def task_table(tasks: list[str]) -> Any:
    """The tasks as pandas writes a frame whose index holds the texts: lerobot asks pandas."""
    pa, _ = pyarrow()
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": tasks})

    def described(name: str, kind: str, numpy_kind: str) -> dict[str, Any]:
        """One column in pandas' own metadata."""
        types = {"pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
        return {"name": name, "field_name": name, **types}

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            described("task_index", "int64", "int64"),
            described("task", "unicode", "object"),
        ],
        "creator": {"library": "pi0_jax"},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
