"""Digests: every flipped bit, lost or cut file is found, whatever file of a folder it is in."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.digests import DIGESTS, check_digests, crc32, differing, write_digests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files at two depths, with digests; nested digests are a file like others."""
    path = tmp_path / "p"
    (path / "a/b").mkdir(parents=True)
    (path / "config.json").write_text("{}\n")
    (path / "a/b/values").write_bytes(np.random.default_rng(0).bytes(3_000_000))
    (path / "a" / DIGESTS).write_text("those of a policy in a policy")
    write_digests(path)
    return path


def test_what_is_written(folder: Path) -> None:
    """The CRC-32 of "123456789" is cbf43926 in every description of it."""
    (folder / "nine").write_text("123456789")
    assert crc32(folder / "nine") == "cbf43926"
    assert crc32(folder / "nine", 0) == "00000000"
    write_digests(folder)
    found = json.loads((folder / DIGESTS).read_text())
    assert found["algorithm"] == "crc32"
    assert list(found["files"]) == ["a/b/values", f"a/{DIGESTS}", "config.json", "nine"]
    assert found["files"]["nine"] == [9, "cbf43926"]


def test_a_whole_folder_passes_and_may_have_more_files(folder: Path, caplog) -> None:
    (folder / "README.md").write_text("a card")
    check_digests(folder)
    assert differing(folder) == []
    assert caplog.text == ""


def test_every_flipped_bit_is_found(folder: Path) -> None:
    """200 bits anywhere in the folder, digests.json included."""
    rng = np.random.default_rng(1)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(200):
        path = files[number % len(files)]
        size = path.stat().st_size
        with path.open("r+b") as file:
            where, bit = int(rng.integers(size)), int(rng.integers(8))
            file.seek(where)
            (byte,) = file.read(1)
            file.seek(where)
            file.write(bytes([byte ^ 1 << bit]))
            file.flush()
            with pytest.raises(InputError, match=r"damaged|expected JSON|outside"):
                check_digests(folder)
            file.seek(where)
            file.write(bytes([byte]))
    check_digests(folder)


@pytest.mark.parametrize("damage", ["cut", "longer", "gone", "a folder", "a pointer"])
def test_other_damage(folder: Path, damage: str) -> None:
    path = folder / "a/b/values"
    if damage == "cut":
        os.truncate(path, 2_999_999)
    elif damage == "longer":
        os.truncate(path, 3_000_001)
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    says = "damaged, or changed since it was written: a/b/values; copy it again"
    if damage == "a pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        says = "git lfs pull"
    with pytest.raises(InputError, match=says):
        check_digests(folder)


def test_large_files_may_be_passed_over_but_for_their_size(folder: Path) -> None:
    path = folder / "a/b/values"
    path.write_bytes(bytes(3_000_000))
    check_digests(folder, largest=10**6)
    os.truncate(path, 5)
    with pytest.raises(InputError, match="a/b/values"):
        check_digests(folder, largest=10**6)


def test_digests_name_no_file_outside(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    for name in ("../secret", str(folder.parent / "secret"), "", "a/../../secret"):
        listed = {"algorithm": "crc32", "files": {name: [1, "8cdc1683"]}}
        (folder / DIGESTS).write_text(json.dumps(listed))
        with pytest.raises(InputError, match="which is outside"):
            check_digests(folder)


def test_a_folder_without_digests_passes_with_a_line(folder: Path, caplog) -> None:
    (folder / DIGESTS).unlink()
    check_digests(folder)
    assert caplog.messages == [
        f"{folder} has no digests.json, so damage would not be noticed; "
        f"`python -m pi0_jax.check --renew {folder}` makes it"
    ]
