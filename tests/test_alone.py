"""Two processes that make one folder: the second is told, and changes nothing of the first."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.io import atomic
from pi0_jax.io.alone import alone_in
from pi0_jax.io.atomic import atomic_folder


def refused(name: str) -> AbstractContextManager[object]:
    return pytest.raises(InputError, match=rf"{name}: another process is making it")


def test_the_second_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with alone_in(tmp_path, Path("P")), refused("P"), alone_in(tmp_path, Path("P")):
        pass
    with alone_in(tmp_path, Path("P")):
        pass


def test_one_that_is_no_longer_there(tmp_path: Path) -> None:
    with refused("P"), alone_in(tmp_path / "gone", Path("P")):
        pass


def test_one_that_appears_while_it_is_looked_for(tmp_path: Path) -> None:
    """It is another process's, and stays."""
    other = tmp_path / ".p.pi0_jax-partial"

    def check() -> None:
        other.mkdir()
        (other / "a").write_text("1")

    with refused("p"), atomic_folder(tmp_path / "p", check):
        pass
    assert (other / "a").read_text() == "1"


def test_one_that_appears_after_the_name_was_given(tmp_path: Path) -> None:
    other = tmp_path / ".p.pi0_jax-partial"
    original = atomic._replace

    def replace(path: Path, new: Path, old: Path) -> None:
        original(path, new, old)
        other.mkdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "_replace", replace)
        with atomic_folder(tmp_path / "p"):
            pass
    assert other.is_dir() and (tmp_path / "p").is_dir()


def test_a_folder_that_is_being_made(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "p") as first:
        (first / "a").write_text("1")
        with refused("p"), atomic_folder(tmp_path / "p"):
            pass
        (first / "b").write_text("2")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "p"]
