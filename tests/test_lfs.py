"""git-lfs pointers are recognised by their first line, and by nothing else."""

from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.lfs import is_pointer, refuse_pointer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def test_a_pointer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_text(POINTER)
    with pytest.raises(InputError, match=r"model\.bin: a git-lfs pointer, not the file; run `git"):
        refuse_pointer(file)


@pytest.mark.parametrize("text", ["", "version 2", "x" * 40, POINTER + "x" * 1024])
def test_another_file_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_text(text)
    assert not is_pointer(file)
    refuse_pointer(file)


def test_a_folder_or_nothing_is_none(tmp_path: Path) -> None:
    assert not is_pointer(tmp_path) and not is_pointer(tmp_path / "none")
