"""What is no plain file is refused at once; git-lfs pointers are known by their first line."""

import os
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.plain_file import check_file, is_pointer, read_bytes, read_text

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def test_a_pointer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_text(POINTER)
    with pytest.raises(InputError, match=r"model\.bin: a git-lfs pointer, not the file; run `git"):
        check_file(file)


@pytest.mark.parametrize("text", ["", "version 2", "x" * 40, POINTER + "x" * 1024])
def test_another_file_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_text(text)
    assert not is_pointer(file)
    check_file(file)


def test_a_folder_or_nothing_is_none(tmp_path: Path) -> None:
    assert not is_pointer(tmp_path) and not is_pointer(tmp_path / "none")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="expected a plain file, got a pipe"):
        check_file(tmp_path / "config.json")
    with pytest.raises(InputError, match="got a pipe, a socket or a device"):
        check_file(Path("/dev/zero"))


def test_a_length_may_be_limited(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    check_file(tmp_path / "x", 5)
    with pytest.raises(InputError, match="expected at most 4 bytes, got 5"):
        check_file(tmp_path / "x", 4)


def test_a_file_that_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("é")
    assert (read_bytes(tmp_path / "x"), read_text(tmp_path / "x")) == (b"\xc3\xa9", "é")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    with pytest.raises(InputError, match="expected a file, found a folder"):
        read_bytes(tmp_path)
    # Ten terabytes of which the disk keeps none.
    os.truncate(tmp_path / "x", 10 * 2**40)
    with pytest.raises(InputError, match="x: expected at most 268,435,456 bytes"):
        read_text(tmp_path / "x")
    (tmp_path / "x").write_text("é", "latin-1")
    with pytest.raises(InputError, match="x: expected text in UTF-8"):
        read_text(tmp_path / "x")
