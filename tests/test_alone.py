"""Two processes that make one folder: the second is told, and changes nothing of the first."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.alone import alone_in
from pi0_jax.io.atomic import atomic_folder


def refused(name: str) -> AbstractContextManager[object]:
    return pytest.raises(InputError, match=rf"{name}: another process is making it")


def test_the_second_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with alone_in(tmp_path, Path("P")), refused("P"), alone_in(tmp_path, Path("P")):
        pass
    with alone_in(tmp_path, Path("P")):
        pass


def test_a_folder_that_is_being_made(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "p") as first:
        (first / "a").write_text("1")
        with refused("p"), atomic_folder(tmp_path / "p"):
            pass
        (first / "b").write_text("2")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "p"]
