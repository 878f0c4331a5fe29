"""Single pictures out of parquet files, however pyarrow was asked to lay them out."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0_jax.data.lerobot.image_column import ImageColumn
from pi0_jax.data.lerobot.snappy_blocks import UnusualError, find_blocks
from pi0_jax.data.lerobot.thrift import read_struct


def pictures(count: int) -> list[bytes]:
    """Bytes that cannot be packed, as of pictures, some longer than a block; two are equal."""
    rng = np.random.default_rng(0)
    found = [rng.bytes(int(size)) for size in rng.integers(1, 150_000, count)]
    found[-1] = found[1]
    found[2] = b"a" * 5000 + found[2]  # and some that can
    return found


def write(path: Path, values: list[bytes | None], **options) -> ImageColumn:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [None if value is None else {"bytes": value, "path": None} for value in values]
    columns = {"other": list(range(len(values))), "front": pa.array(rows, kind)}
    pq.write_table(pa.table(columns), path, **options)
    return ImageColumn(path, "front")


LAYOUTS = {
    "as lerobot": {},
    "row groups": {"row_group_size": 7},
    "no dictionary": {"use_dictionary": False},
    "many pages": {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 200_000},
    "unpacked": {"use_dictionary": False, "compression": "none"},
}
FOR_PYARROW = {"zstd": {"compression": "zstd"}, "version 2": {"data_page_version": "2.0"}}


@pytest.mark.parametrize("layout", [*LAYOUTS, *FOR_PYARROW])
def test_every_picture_is_the_one_that_was_written(tmp_path, layout):
    expected = pictures(30)
    column = write(tmp_path / "t.parquet", expected, **{**LAYOUTS, **FOR_PYARROW}[layout])
    for row in (29, 0, 7, 2, 13, 14, 1):
        assert column.read(row) == expected[row], row
    known = {group: places is not None for group, places in column._groups.items()}
    assert all(known.values()) == (layout in LAYOUTS), known


def test_small_pictures_whose_extremes_stand_in_the_header_of_a_page(tmp_path):
    """Statistics of pyarrow hold whole values of up to 4,096 bytes: a header may have four."""
    expected = [bytes([number]) * 4090 for number in range(6)]
    column = write(tmp_path / "t.parquet", expected, row_group_size=2, use_dictionary=False)
    assert [column.read(row) for row in range(6)] == expected
    assert all(places is not None for places in column._groups.values())


def test_the_end_of_a_file_is_read_once(tmp_path, monkeypatch):
    """A file of lerobot's has thousands of row groups, and its end is megabytes then."""
    column = write(tmp_path / "t.parquet", pictures(20), row_group_size=2)
    opened = []

    class Counted(pq.ParquetFile):
        def __init__(self, *args, **options):
            opened.append(args)
            super().__init__(*args, **options)

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    for row in range(20):
        column.read(row)
    assert len(opened) == 1


def test_what_is_read_is_the_picture_alone(tmp_path, monkeypatch):
    """The first read walks its row group; the next one touches a few blocks of 64 KB."""
    column = write(tmp_path / "t.parquet", pictures(30))
    column.read(0)
    read = []

    def counted(file: int, count: int, start: int) -> bytes:
        read.append(count)
        return original(file, count, start)

    original = os.pread
    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(pq, "ParquetFile", None)
    column.read(17)
    assert sum(read) < 5 * 65_536


def test_a_missing_picture_is_pyarrows_matter(tmp_path):
    column = write(tmp_path / "t.parquet", [b"one", None, b"three"])
    assert column.read(2) == b"three"
    with pytest.raises(TypeError):
        column.read(1)


def test_rows_behind_the_end(tmp_path):
    column = write(tmp_path / "t.parquet", [b"one"])
    with pytest.raises((LookupError, ValueError, OSError)):
        column.read(1)


def test_a_damaged_page_is_not_walked_for_ever(tmp_path):
    """Each byte of a small file changed in turn: a value, or an error that readers expect."""
    path = tmp_path / "t.parquet"
    write(path, [b"first", b"second", b"third" * 20])
    whole = path.read_bytes()
    for place in range(4, 400):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, pa.ArrowException):
            assert isinstance(ImageColumn(path, "front").read(1), bytes)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x05\x00a", b"\x05\x10abcd", b"\xff\xff\xff\xff\xff", b"\x02\x01\x01"],
    ids=["empty", "short", "cut", "length", "back"],
)
def test_what_is_no_snappy_is_refused(data):
    def get(start: int, count: int) -> bytes:
        return data[start : start + count]

    with pytest.raises((UnusualError, IndexError)):
        find_blocks(get, 0, len(data)).read(get, 0, 2)


def test_a_page_header_of_parquets_specification():
    """Field 1 is 0, field 2 is 5, field 5 a struct with field 1 of 3, by hand."""
    assert read_struct(bytes([0x15, 0x00, 0x15, 0x0A, 0x3C, 0x15, 0x06, 0x00, 0x00])) == (
        {1: 0, 2: 5, 5: {1: 3}}, 9
    )  # fmt: skip
    with pytest.raises(ValueError, match="without end"):
        read_struct(b"\x1c" * 100)
