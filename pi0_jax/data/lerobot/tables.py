"""Columns of parquet files as NumPy arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.optional import needed
from pi0_jax.plain_file import check_file

# LeRobot begins a new file after 100 MB. Repeated values need no room there, but in memory.
_MOST_ROWS = 5_000_000


def pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet, imported when a table is touched.

    Raises:
        InputError: pyarrow, an optional dependency, is not installed.
    """
    with needed("a LeRobot folder", "pip install -e '.[lerobot]'"):
        import pyarrow as pa
        from pyarrow import parquet
    return pa, parquet


def read_table(file: Path, columns: Sequence[str] | None = None, beside: Sequence[str] = ()) -> Any:
    """Reads a parquet file.

    Args:
        file: the parquet file.
        columns: names of the columns; None for all.
        beside: columns that must exist too, but are not read.

    Raises:
        InputError: there is no such file or column.
    """
    pa, parquet = pyarrow()
    check_file(file)
    try:
        with parquet.ParquetFile(file) as opened:
            present = opened.schema_arrow.names
            if missing := [name for name in (*(columns or ()), *beside) if name not in present]:
                raise InputError(f"{file}: no column {missing}; it has {present}")
            if opened.metadata.num_rows > _MOST_ROWS:
                raise InputError(
                    f"{file}: expected at most {_MOST_ROWS:,} rows, got "
                    f"{opened.metadata.num_rows:,}"
                )
            return opened.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: expected a parquet file: {error}") from error


def read_columns(
    file: Path, names: Sequence[str], beside: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Reads numeric columns of a parquet file: float64[row], or [row, d] for lists.

    Args:
        file: the parquet file.
        names: names of the columns.
        beside: columns that must exist too, but are not read.

    Raises:
        InputError: there is no such file or column, lists have different lengths, or a value is
            missing or not finite.
    """
    table = read_table(file, names, beside)
    return {name: numbers(table.column(name), f"{file}: column {name!r}") for name in names}


def numbers(column: Any, where: str) -> np.ndarray:
    """A column as float64[row], or [row, ...] for lists of one length.

    Args:
        column: a pyarrow ChunkedArray.
        where: for the message.

    Raises:
        InputError: it holds something else, or a value is missing or not finite.
    """
    from pyarrow import float64, types

    flat, shape = column.combine_chunks(), [len(column)]
    # Down through the lists: [row, d] lies in memory as its numbers one after the other.
    while kind := _list_kind(flat.type):
        _refuse_missing(flat, where)
        fixed = kind == "fixed"
        size = flat.type.list_size if fixed else _one(flat.value_lengths().to_numpy(), where)
        flat, shape = flat.flatten(), [*shape, size]
    _refuse_missing(flat, where)
    if types.is_boolean(flat.type):
        flat = flat.cast("int8")
    if not (types.is_integer(flat.type) or types.is_floating(flat.type)):
        raise InputError(f"{where}: expected numbers, or lists of one length: it holds {flat.type}")
    values = flat.cast(float64(), safe=False).to_numpy(zero_copy_only=False).reshape(shape)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: a value is missing or not finite")
    return values


def scalars(values: np.ndarray, where: str) -> np.ndarray:
    """A column of one number per row, float64[row]; also one of lists with one number each.

    Raises:
        InputError: it has several numbers per row.
    """
    if values.size != len(values):
        raise InputError(f"{where}: expected one number per row, got {values.shape[1:]}")
    return values.reshape(len(values))


def _list_kind(kind: Any) -> str:
    """What sort of list a type is; "" for none."""
    from pyarrow import types

    if types.is_fixed_size_list(kind):
        return "fixed"
    return "free" if types.is_list(kind) or types.is_large_list(kind) else ""


def _one(lengths: np.ndarray, where: str) -> int:
    """The length of all lists; 0 where there are none."""
    found = np.unique(lengths)
    if len(found) > 1:
        raise InputError(
            f"{where}: expected numbers, or lists of one length: got lists of "
            f"{', '.join(str(int(x)) for x in found[:3])}"
        )
    return int(found[0]) if len(found) else 0


def _refuse_missing(array: Any, where: str) -> None:
    if array.null_count:
        raise InputError(f"{where}: a value is missing or not finite")
