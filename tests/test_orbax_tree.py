"""Trees on disk: Orbax and the layer-by-layer reader and writer understand each other."""

import json
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import (
    TreeReader,
    TreeWriter,
    check_space,
    load_shapes,
    load_tree,
    new_folder,
    save_tree,
)

TREE = {
    "params": {
        "layers": {"w": np.arange(24, dtype=np.float32).reshape(3, 2, 4)},
        "bias": np.array([1.5, -2], ml_dtypes.bfloat16),
    }
}


def write(path: Path) -> None:
    with TreeWriter(path) as writer:
        writer.create("params/layers/w", (3, 2, 4), "float32", layered=True)
        writer.create("params/bias", (2,), "bfloat16", layered=False)
        for i in range(3):
            writer.write("params/layers/w", TREE["params"]["layers"]["w"][i], i).result()
        writer.write("params/bias", TREE["params"]["bias"]).result()


def assert_same(tree: dict) -> None:
    np.testing.assert_array_equal(tree["params"]["layers"]["w"], TREE["params"]["layers"]["w"])
    assert tree["params"]["bias"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(tree["params"]["bias"], TREE["params"]["bias"])


def test_a_tree_survives_the_disk(tmp_path: Path) -> None:
    save_tree(tmp_path / "t", TREE)
    assert_same(load_tree(tmp_path / "t"))


def test_orbax_itself_reads_what_was_written_in_layers(tmp_path: Path) -> None:
    write(tmp_path / "t")
    assert_same(load_tree(tmp_path / "t"))
    assert_same(ocp.PyTreeCheckpointer().restore(tmp_path / "t"))


@pytest.mark.parametrize("by_orbax", [True, False])
def test_reading_layer_by_layer(tmp_path: Path, by_orbax: bool) -> None:
    save_tree(tmp_path / "t", TREE) if by_orbax else write(tmp_path / "t")
    reader = TreeReader(tmp_path / "t")
    assert reader.shapes == {"params/layers/w": (3, 2, 4), "params/bias": (2,)}
    assert reader.dtypes == {"params/layers/w": "float32", "params/bias": "bfloat16"}
    for i in (2, 0):
        np.testing.assert_array_equal(
            reader.read("params/layers/w", i), TREE["params"]["layers"]["w"][i]
        )
    np.testing.assert_array_equal(reader.read("params/bias"), TREE["params"]["bias"])


def test_arrays_without_ocdbt_are_folders(tmp_path: Path) -> None:
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    ocp.Checkpointer(handler).save(tmp_path / "t", {"a": {"b": np.arange(4.0)}})
    np.testing.assert_array_equal(TreeReader(tmp_path / "t").read("a/b"), np.arange(4.0))


def test_an_empty_branch_has_no_array(tmp_path: Path) -> None:
    save_tree(tmp_path / "t", {"a": np.ones(2), "empty": {}})
    assert TreeReader(tmp_path / "t").shapes == {"a": (2,)}


def test_damage_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an Orbax folder"):
        TreeReader(tmp_path)
    write(tmp_path / "t")
    metadata = (tmp_path / "t/_METADATA").read_text()
    (tmp_path / "t/_METADATA").write_text(metadata[:-9])
    with pytest.raises(InputError, match="cannot read this Orbax folder"):
        TreeReader(tmp_path / "t")
    (tmp_path / "t/_METADATA").write_text(metadata)
    shutil.rmtree(tmp_path / "t/d")
    with pytest.raises(InputError, match="cannot read"):
        TreeReader(tmp_path / "t").read("params/bias")


@pytest.mark.parametrize("gone", ["d", "manifest.ocdbt", "half a file"])
def test_a_damaged_tree_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], gone: str
) -> None:
    save_tree(tmp_path / "t", TREE)
    if gone == "half a file":
        for file in (tmp_path / "t/d").iterdir():
            os.truncate(file, file.stat().st_size // 2)
    else:
        (tmp_path / "t" / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError) as error:
        load_tree(tmp_path / "t")
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_an_unfinished_writer_leaves_no_metadata(tmp_path: Path) -> None:
    with pytest.raises(KeyError), TreeWriter(tmp_path / "t"):
        raise KeyError
    assert not (tmp_path / "t/_METADATA").exists()


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a/b"
    with pytest.raises(KeyError), new_folder(target) as folder:
        (folder / "half").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "whole").touch()
        assert not target.exists()
    assert [child.name for child in target.iterdir()] == ["whole"]
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
    (ours / "manifest.json").write_text(json.dumps({}))
    (theirs / "thesis.tex").touch()
    for path in (ours, empty):
        with pytest.raises(InputError, match="exists already"), new_folder(path):
            pass
        with new_folder(path, overwrite=True) as folder:
            (folder / "new").touch()
        assert [child.name for child in path.iterdir()] == ["new"]
    with pytest.raises(InputError, match="not written by pi0_jax"):
        new_folder(theirs, overwrite=True).__enter__()
    assert (theirs / "thesis.tex").exists()


def test_an_error_leaves_the_earlier_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/manifest.json").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "p", overwrite=True):
        raise KeyError
    assert (tmp_path / "p/manifest.json").exists()
    assert [child.name for child in tmp_path.iterdir()] == ["p"]


def ours(path: Path) -> Path:
    """A folder that may be overwritten."""
    path.mkdir()
    (path / "manifest.json").touch()
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
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["new"]
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


def test_a_full_disk_is_said_before_the_work(tmp_path: Path) -> None:
    check_space(tmp_path / "not/yet/there", 1)
    with pytest.raises(InputError, match=r"needs 1000000000\.0 GB"):
        check_space(tmp_path / "x", 10**18)


def test_shapes_without_values(tmp_path):
    tree = {"a": {"b": np.zeros((2, 3), ml_dtypes.bfloat16)}, "c": np.zeros(4, "i4")}
    save_tree(tmp_path / "t", tree)
    found = load_shapes(tmp_path / "t")
    assert (found["a"]["b"].shape, found["a"]["b"].dtype) == ((2, 3), ml_dtypes.bfloat16)
    assert (found["c"].shape, found["c"].dtype) == ((4,), np.int32)
