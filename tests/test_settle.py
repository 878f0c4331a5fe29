"""What is settled while a folder is filled is what lies there at the end, whatever happens."""

import os
import threading
import time
import zlib
from pathlib import Path

import pytest

from pi0_jax.io import settle
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.digests import differing


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Looks at once; the times of a file are exact to some milliseconds."""
    monkeypatch.setattr(settle, "_LOOK_S", 0.05)


def waited_for(settled, path: Path, text: bytes) -> None:
    wanted = f"{zlib.crc32(text):08x}"
    end = time.monotonic() + 20
    while settled.get(path, ("", ""))[1] != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_that_is_complete_is_not_read_again(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    path, synced = tmp_path / "a/values", []
    monkeypatch.setattr(settle, "sync_file", synced.append)
    with settle.settling(tmp_path) as settled:
        path.write_bytes(b"123456789")
        waited_for(settled, path, b"123456789")
    assert synced == [path]
    monkeypatch.setattr(settle, "crc32", lambda path: "read again")
    assert settle.digest(path, settled) == "cbf43926"
    assert settle.digest(tmp_path / "a/values", {}) == "read again"


def test_what_changes_later_is_read_at_the_end(tmp_path):
    """Also at equal size, and replaced by another file with the same times."""
    path = tmp_path / "values"
    with settle.settling(tmp_path) as settled:
        path.write_bytes(b"one")
        waited_for(settled, path, b"one")
    before = path.stat()
    path.write_bytes(b"two")
    assert settle.digest(path, settled) == f"{zlib.crc32(b'two'):08x}"
    (tmp_path / "other").write_bytes(b"six")
    (tmp_path / "other").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert settle.digest(path, settled) == f"{zlib.crc32(b'six'):08x}"


def test_a_new_folder_has_right_digests_of_whatever_order(tmp_path):
    with new_folder(tmp_path / "p") as folder:
        for number in range(5):
            (folder / f"{number}").write_bytes(bytes([number]) * 1000)
            time.sleep(0.06)
            # Written over, and written to at the end, after it may have been settled.
            (folder / "0").write_bytes(bytes([9 - number]) * 1000)
            with (folder / "grows").open("ab") as file:
                file.write(b"more")
    assert differing(tmp_path / "p") == []


def test_an_error_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    busy, free = threading.Event(), threading.Event()

    def sync(path):
        busy.set()
        free.wait(20)

    monkeypatch.setattr(settle, "sync_file", sync)
    (tmp_path / "values").write_bytes(b"one")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), settle.settling(tmp_path):
        busy.wait(20)
        raise KeyboardInterrupt
    free.set()
    assert time.monotonic() - start < 10


def test_a_folder_that_goes_ends_no_block(tmp_path):
    with settle.settling(tmp_path / "none"):
        time.sleep(0.15)
