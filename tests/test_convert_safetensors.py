"""Our tensor-by-tensor safetensors reader and writer against the library."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pi0_jax.convert.files.safetensors_file import (
    SafetensorsFile,
    SafetensorsWriter,
    open_all,
    read,
    write_small,
)
from pi0_jax.convert.keys.layout_copy import contiguous
from pi0_jax.errors import InputError


def tensors() -> dict[str, np.ndarray]:
    return {
        "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array([1.5, -2], ml_dtypes.bfloat16),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float16),
    }


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "x.safetensors", {"who": "library"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.metadata["who"] == "library"
    for key, wanted in tensors().items():
        found = read(file.entries[key])
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    write_small(tmp_path / "x.safetensors", tensors())
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors().keys()
    for key, wanted in tensors().items():
        np.testing.assert_array_equal(found[key], wanted)


def test_another_tensor_than_announced_is_a_bug(tmp_path: Path) -> None:
    with (
        SafetensorsWriter(tmp_path / "x", {"a": ("float32", (2,))}, {}) as writer,
        pytest.raises(ValueError, match="expected a float32"),
    ):
        writer.write("a", np.zeros(3, np.float32))


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_truncated_file_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    write_small(path, tensors())
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"x\.safetensors: truncated"):
        SafetensorsFile(path)


def test_nothing_stands_behind_the_tensors(tmp_path: Path) -> None:
    save_file({"a": np.ones(40, np.float32)}, tmp_path / "x.safetensors")
    # Ten terabytes, which the disk does not keep and a digest would read.
    os.truncate(tmp_path / "x.safetensors", 10 * 2**40)
    with pytest.raises(InputError, match=r"x\.safetensors: too long: its header promises"):
        SafetensorsFile(tmp_path / "x.safetensors")


def test_other_files_are_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "header").write_bytes((2).to_bytes(8, "little") + b"[]")
    for name, message in (("empty", "truncated"), ("lfs", "git lfs pull"), ("header", "damaged")):
        with pytest.raises(InputError, match=message):
            SafetensorsFile(tmp_path / name)


def test_a_key_in_two_shards_is_an_error(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_small(tmp_path / name, {"a": np.zeros(1, np.float32)})
    with pytest.raises(InputError, match="in another shard too: a"):
        open_all([tmp_path / "1", tmp_path / "2"])


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    data=st.data(),
)
def test_contiguous_copies_any_order_of_axes(
    shape: list[int], dtype: str, data: st.DataObject
) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).astype(ml_dtypes.bfloat16)
    x = x.transpose(data.draw(st.permutations(range(len(shape)))))
    copy = contiguous(x, dtype)
    assert copy.flags.c_contiguous and copy.dtype.name == dtype
    np.testing.assert_array_equal(copy, x.astype(np.dtype(dtype)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
            "overlap or leave a gap",
        ),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "overlap or leave a gap"),
        (
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
            '"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            "overlap or leave a gap",
        ),
        ('{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}', r"shape \[-1, -1\]"),
        ('{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}', r"shape \[1.0\]"),
        (
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
            '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            "is there twice",
        ),
        ('{"__metadata__": [1]}', "damaged safetensors header"),
        ('{"__metadata__": {"num_heads": 8}}', "__metadata__ num_heads is no text"),
        # 2^64 elements: none, if 64 bits count them.
        (
            '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}',
            "0 bytes do not hold F32",
        ),
        ('{"a": ' + "[" * 100000, "damaged safetensors header"),
    ],
)
def test_a_header_that_the_library_refuses(tmp_path: Path, header: str, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 8)
    with pytest.raises(InputError, match=message):
        SafetensorsFile(path)
