"""What lies in a folder: names that fit, links as they are, and nothing passed over."""

import os
from pathlib import Path

import pytest

from pi0_jax.listing import below, entries


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_names_that_fit(tmp_path: Path) -> None:
    for name in ("b.npz", "a/c.npz", "a/._c.npz", "a/d/e.npz", "x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/again").symlink_to(tmp_path)
    assert names(entries(tmp_path), tmp_path) == ["a", "b.npz", "x.json"]
    assert names(entries(tmp_path, "*.npz"), tmp_path) == ["b.npz"]
    assert names(below(tmp_path, "[!.]*.npz"), tmp_path) == ["a/c.npz", "a/d/e.npz", "b.npz"]
    assert "a/again" in names(below(tmp_path), tmp_path)
    assert [entries(tmp_path / "none"), below(tmp_path / "none")] == [[], []]
    assert below(tmp_path / "x.json") == []
    with pytest.raises(NotADirectoryError):
        entries(tmp_path / "x.json")


def test_a_folder_that_may_not_be_read_is_not_empty(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # Tests may be run by root, who may read everything.
    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for read in (entries, below):
        with pytest.raises(PermissionError, match=str(tmp_path)):
            read(tmp_path)
