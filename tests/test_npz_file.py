"""NumPy archives of others: plain arrays, or one sentence that names the file."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.npz_file import read_arrays


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=np.array([1, 2]), text=np.array("on"))
    found = read_arrays(tmp_path / "a.npz", "numbers")
    assert list(found) == ["first", "text"]
    assert (found["first"].tolist(), found["text"].item()) == ([1, 2], "on")


def header(text: str) -> bytes:
    """A .npy file of 8 zero bytes, whose header says `text`."""
    line = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + bytes(8)


WHOLE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


@pytest.mark.parametrize(
    "content",
    [
        header(WHOLE.replace("(1,)", '"1,)')),  # a flipped bit: quote for bracket
        header(WHOLE.replace("(1,)", "(1,")),
        header(WHOLE.replace("(1,)", "(10,)")),
        header(WHOLE.replace("(1,)", "(" + "9" * 40 + ",)")),
        header(WHOLE.replace("(1,)", "(" + "9" * 15 + ",)")),  # more bytes than a machine has
        header("(" * 1000),
        b"no array",
    ],
)
def test_an_array_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("first.npy", header(WHOLE))
        archive.writestr("second.npy", content)
    with pytest.raises(InputError, match=r"a\.npz: expected numbers, got: "):
        read_arrays(tmp_path / "a.npz", "numbers")


def test_a_flag_that_says_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, first=np.zeros(1))
    content = path.read_bytes()
    # Byte 8 of an entry of the central directory is the first of its flags.
    where = content.index(b"PK\x01\x02") + 8
    path.write_bytes(content[:where] + bytes([content[where] | 1]) + content[where + 1 :])
    with pytest.raises(InputError, match=r"a\.npz: expected numbers, got: .*encrypted"):
        read_arrays(path, "numbers")


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "one array", "objects"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    if kind == "folder":
        path.mkdir()
    if kind in ("text", "empty"):
        path.write_text("numbers\n" * (kind == "text"))
    if kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    if kind == "objects":
        np.savez(path, first=np.array([path], object))
    with pytest.raises(InputError, match=r"a\.npz: expected numbers, got: "):
        read_arrays(path, "numbers")


def test_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"a\.npz: a git-lfs pointer"):
        read_arrays(tmp_path / "a.npz", "numbers")
