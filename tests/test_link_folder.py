"""A second name for a folder: it takes no room where links are possible, and is whole elsewhere."""

import errno
import os
import shutil

import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.digests import check_digests, write_digests
from pi0_jax.io.link_folder import link_folder


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "given"
    (folder / "params").mkdir(parents=True)
    (folder / "params" / "leaf").write_bytes(bytes(1000))
    (folder / "blob").write_text("config")
    (folder / "config.json").symlink_to("blob")
    return folder


def no_links(*args):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("linked", [True, False])
def test_the_files_stay_when_the_first_folder_goes(tmp_path, given, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    own = tmp_path / "run" / "start"
    assert link_folder(given, own) == f"{'linked' if linked else 'copied'} 1.01 kB"
    leaf = given / "params" / "leaf"
    assert (leaf.stat().st_nlink == 2) is linked
    shutil.rmtree(given)
    assert (own / "params" / "leaf").read_bytes() == bytes(1000)
    assert (own / "config.json").read_text() == "config"


def test_only_what_the_digests_name_is_taken(tmp_path, given):
    write_digests(given)
    (given / "film.mp4").write_bytes(bytes(9))
    link_folder(given, tmp_path / "own")
    check_digests(tmp_path / "own")
    assert not (tmp_path / "own" / "film.mp4").exists()


def test_a_copy_needs_room(tmp_path, given, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=500))
    with pytest.raises(InputError, match=r"expected 1.01 kB of free disk for a copy of .*given"):
        link_folder(given, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_name_that_leads_out_and_a_pipe_are_refused(tmp_path, given):
    os.mkfifo(given / "pipe")
    (given / "digests.json").write_text('{"algorithm": "crc32", "files": {"pipe": [0, "0"]}}')
    with pytest.raises(InputError, match="expected a plain file, got a pipe"):
        link_folder(given, tmp_path / "own")
    (given / "digests.json").write_text('{"algorithm": "crc32", "files": {"../x": [0, "0"]}}')
    with pytest.raises(InputError, match="outside"):
        link_folder(given, tmp_path / "own")
