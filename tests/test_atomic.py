"""Files and folders appear whole or not at all, and what was there before stays until then."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.io import alone
from pi0_jax.io.atomic import atomic_file, atomic_folder, clean, new_folder, remove, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a/b.npz"
    with atomic_file(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert list(target.parent.glob("*.npz")) == []
    assert target.read_text() == "half"
    assert names(target.parent) == ["b.npz"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_earlier_file_and_nothing_beside_it(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a") as partial:
        partial.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").write_text("a long half of a file")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_two_files_that_differ_in_their_ending_do_not_meet(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.json") as one, atomic_file(tmp_path / "a.npz") as two:
        one.write_text("1")
        two.write_text("2")
    assert ((tmp_path / "a.json").read_text(), (tmp_path / "a.npz").read_text()) == ("1", "2")


def test_a_text_is_replaced_in_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "before, and longer")
    write_text(tmp_path / "a", "\u03c00\n")
    assert (tmp_path / "a").read_bytes() == b"\xcf\x800\n"


def test_an_atomic_folder_replaces_whatever_is_there(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5/old").touch()
    with atomic_folder(tmp_path / "5") as folder:
        (folder / "new").touch()
        assert names(tmp_path / "5") == ["old"]
    assert names(tmp_path / "5") == ["new"]
    assert names(tmp_path) == ["5"]


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a/b"
    with pytest.raises(KeyError), new_folder(target) as folder:
        (folder / "half").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "whole").touch()
        assert not target.exists()
    assert names(target) == ["digests.json", "whole"]
    assert [child.name for child in target.parent.iterdir()] == ["b"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".a.pi0_jax-partial"
    left.mkdir()
    (left / "half").touch()
    with new_folder(tmp_path / "a") as folder:
        assert list(folder.iterdir()) == []


def test_only_our_own_folders_are_overwritten(tmp_path: Path) -> None:
    ours, theirs, empty = (tmp_path / name for name in ("ours", "theirs", "empty"))
    for path in (ours, theirs, empty):
        path.mkdir()
    (ours / "manifest.json").write_text(json.dumps({"made_by": "convert"}))
    (theirs / "thesis.tex").touch()
    for path in (ours, empty):
        with pytest.raises(InputError, match="exists already"), new_folder(path):
            pass
        with new_folder(path, overwrite=True) as folder:
            (folder / "new").touch()
        assert names(path) == ["digests.json", "new"]
    with pytest.raises(InputError, match="not written by pi0_jax"):
        new_folder(theirs, overwrite=True).__enter__()
    assert (theirs / "thesis.tex").exists()


def test_an_error_leaves_the_earlier_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/manifest.json").write_text('{"made_by": "convert"}')
    with pytest.raises(KeyError), new_folder(tmp_path / "p", overwrite=True):
        raise KeyError
    assert (tmp_path / "p/manifest.json").exists()
    assert [child.name for child in tmp_path.iterdir()] == ["p"]


def test_what_somebody_else_made_in_the_meantime_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "p"
    for overwrite, message in ((False, "exists already"), (True, "was not written by pi0_jax")):
        with (
            pytest.raises(InputError, match=message),
            new_folder(target, overwrite=overwrite) as folder,
        ):
            (folder / "ours").touch()
            target.mkdir()
            (target / "thesis.tex").touch()
        assert names(tmp_path) == ["p"] and names(target) == ["thesis.tex"]
        shutil.rmtree(target)


def test_a_folder_that_came_back_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Its replacement was interrupted: the earlier one has its name again, and is the user's."""
    ours(tmp_path / ".p.pi0_jax-old")
    with pytest.raises(InputError, match="exists already"):
        new_folder(tmp_path / "p").__enter__()
    assert names(tmp_path) == ["p"]


def ours(path: Path) -> Path:
    """A folder that may be overwritten."""
    path.mkdir()
    (path / "manifest.json").write_text('{"made_by": "convert"}')
    return path


def test_neighbours_that_look_like_ours_are_left_alone(tmp_path: Path) -> None:
    ours(tmp_path / "p")
    for name in ("p.old", "p.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "backup").touch()
    with new_folder(tmp_path / "p", overwrite=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "p.old", "p.partial"]
    assert (tmp_path / "p.old/backup").exists()


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    ours(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link", overwrite=True) as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["digests.json", "new"]
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is a link to .*nowhere, which does not exist"):
        new_folder(tmp_path / "dead").__enter__()


def test_the_present_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ours(tmp_path / "p"))
    with new_folder(Path(), overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert (tmp_path / "p/new").exists()


def test_a_place_that_cannot_hold_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder"):
        new_folder(tmp_path / "file/p").__enter__()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a test may run as root
    with pytest.raises(InputError, match="you may not write in"):
        new_folder(tmp_path / "p").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_process_in_a_new_parent_hides_no_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "a/b"):
        (tmp_path / "a/other").touch()
        raise KeyError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_what_a_kill_left_is_removed_and_what_was_to_be_replaced_comes_back(tmp_path: Path) -> None:
    """Whatever the moment, one of the two folders has the name after the clean-up."""
    left = (".a.json.partial", ".b.pi0_jax-partial/c/.d.npz.partial", ".e.pi0_jax-gone/half")
    for name in (*left, ".f.pi0_jax-old/earlier", ".g.pi0_jax-old/earlier", "g/new", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(clean(tmp_path)) == 6
    assert names(tmp_path) == [".hidden", "f", "g"]
    assert (names(tmp_path / "f"), names(tmp_path / "g")) == (["earlier"], ["new"])
    assert clean(tmp_path) == []


def test_a_folder_that_was_being_replaced_is_found_by_the_next_write(tmp_path: Path) -> None:
    ours(tmp_path / ".p.pi0_jax-old")
    with pytest.raises(KeyError), new_folder(tmp_path / "p", overwrite=True):
        raise KeyError
    assert names(tmp_path) == ["p"]
    assert names(tmp_path / "p") == ["manifest.json"]


def test_a_kill_in_a_removal_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "5").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    remove(tmp_path / "5")
    assert names(tmp_path) == [".5.pi0_jax-gone"]


def test_a_stop_in_the_first_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is handled as soon as the folder has been made."""

    def stopped(path: Path) -> None:
        assert list(path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(alone, "sync_folder", stopped)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "p"):
        raise AssertionError
    assert names(tmp_path) == []


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fsync and rename in order, of a file and of a folder of two files."""
    done: list[str] = []
    sync = os.fsync

    def name(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path))

    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(f"sync {name(fd)}"), sync(fd)))
    replace = Path.replace

    def renamed(path: Path, to: Path) -> Path:
        done.append(f"name {to.name}")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "x/a", "1")
    assert done == ["sync .", "sync x/.a.partial", "name a", "sync x"]
    done.clear()
    with atomic_folder(tmp_path / "f") as folder:
        (folder / "d").mkdir()
        (folder / "d/b").write_text("2")
    part = "sync .f.pi0_jax-partial"
    assert done == ["sync .", f"{part}/d/b", f"{part}/d", part, "name f", "sync ."]
