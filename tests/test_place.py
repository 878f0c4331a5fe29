"""What cannot be written is refused before the work."""

import os
import shutil
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.place import check_free, check_space, check_writable


def test_a_full_disk_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * 10**9))
    path = tmp_path / "not/yet/there"
    check_space(path, 2 * 10**9, "a run")
    with pytest.raises(InputError) as error:
        check_space(path, 3 * 10**9, "a run")
    assert str(error.value) == (
        f"{path}: expected 3.00 GB of free disk for a run, got 2.00 GB; make room or choose "
        "another place"
    )


def test_space_is_asked_of_the_nearest_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, usage = [], shutil.disk_usage(tmp_path)

    def disk_usage(path: Path) -> object:
        asked.append(path)
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    check_space(tmp_path / "a/b", 0, "a run")
    check_space(tmp_path, 0, "a run")
    assert asked == [tmp_path, tmp_path]


def test_a_new_place_and_a_folder_of_ours_are_free(tmp_path: Path) -> None:
    check_free(tmp_path / "a/b", overwrite=False)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/manifest.json").write_text('{"made_by": "convert"}')
    check_free(tmp_path / "ours", overwrite=True)
    with pytest.raises(InputError, match="ours: exists already; remove it or choose another"):
        check_free(tmp_path / "ours", overwrite=False)


def test_a_file_and_a_folder_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("theirs", "file"):
        with pytest.raises(InputError, match=f"{name}: was not written by pi0_jax"):
            check_free(tmp_path / name, overwrite=True)


def test_a_dead_link_a_file_above_and_a_closed_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to("nowhere")
    check_writable(tmp_path / "new")
    with pytest.raises(InputError, match="dead: is a link to nowhere, which does not exist"):
        check_writable(tmp_path / "dead")
    with pytest.raises(InputError, match="file is no folder; choose another place"):
        check_writable(tmp_path / "file/p")
    monkeypatch.setattr(os, "access", lambda *_: False)  # a test may run as root
    with pytest.raises(InputError, match="you may not write in"):
        check_writable(tmp_path / "new")


@pytest.mark.parametrize("manifest", ["", "{}", "[1]", '{"name": "an app", "icons": []}'])
def test_a_manifest_of_another_program_is_none_of_ours(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="was not written by pi0_jax"):
        check_free(tmp_path, overwrite=True)
    # A policy that a user saved may have any manifest.
    (tmp_path / "config.json").write_text('{"format_version": 3}')
    check_free(tmp_path, overwrite=True)
