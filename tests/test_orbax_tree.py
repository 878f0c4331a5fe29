"""Trees on disk: Orbax and the layer-by-layer reader and writer understand each other."""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import (
    TreeReader,
    TreeWriter,
    load_shapes,
    load_tree,
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


@pytest.mark.parametrize("in_layers", [True, False])
def test_orbax_itself_reads_what_was_written(tmp_path: Path, in_layers: bool) -> None:
    if in_layers:
        write(tmp_path / "t")
    else:
        save_tree(tmp_path / "t", TREE)
    assert_same(load_tree(tmp_path / "t"))
    assert_same(ocp.PyTreeCheckpointer().restore(tmp_path / "t"))


@pytest.fixture
def smallest_files() -> Iterator[None]:
    """No file may be longer than 100 kB, as on a disk that is full, or by a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("smallest_files")
def test_no_room_is_one_line_and_names_the_folder(tmp_path, capfd) -> None:
    with pytest.raises(OSError, match="File too large") as error:
        save_tree(tmp_path / "t", {"a": np.ones(10, "f4"), "b": np.ones((300, 300), "f4")})
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "t"))
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "t/_METADATA").exists()


@pytest.mark.parametrize("by_orbax", [True, False])
def test_reading_layer_by_layer(tmp_path: Path, by_orbax: bool) -> None:
    if by_orbax:
        ocp.PyTreeCheckpointer().save(tmp_path / "t", TREE)
    else:
        write(tmp_path / "t")
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
    ocp.PyTreeCheckpointer().save(tmp_path / "t", {"a": np.ones(2), "empty": {}})
    assert TreeReader(tmp_path / "t").shapes == {"a": (2,)}


def test_damage_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an Orbax folder"):
        TreeReader(tmp_path)
    write(tmp_path / "t")
    metadata = (tmp_path / "t/_METADATA").read_text()
    (tmp_path / "t/_METADATA").write_text(metadata[:-9])
    with pytest.raises(InputError, match="_METADATA: expected JSON"):
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


def instead(make):
    """Something else in place of a file."""

    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("_METADATA", instead(os.mkfifo), "_METADATA: expected a plain file, got a pipe"),
        ("_METADATA", lambda file: os.truncate(file, 2**43), "_METADATA: expected at most"),
        ("_METADATA", lambda file: file.write_text("[" * 100000), "nested too deeply"),
        ("_METADATA", lambda file: file.write_text('{"tree_metadata": []}'), "cannot read this"),
        ("manifest.ocdbt", instead(os.mkfifo), "manifest.ocdbt: expected a plain file"),
        ("manifest.ocdbt", instead(lambda file: file.symlink_to("/dev/zero")), "or a device"),
        # TensorStore would end the process for want of memory.
        ("manifest.ocdbt", lambda file: os.truncate(file, 2**43), "manifest.ocdbt: expected at"),
        ("d/*", instead(os.mkfifo), "d/.*: expected a plain file, got a pipe"),
        ("d/*", lambda file: os.truncate(file, 2**43), "d/.*: expected at most"),
    ],
)
def test_what_tensorstore_would_wait_for_or_die_of(
    tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    save_tree(tmp_path / "t", TREE)
    damage(next((tmp_path / "t").glob(name)))
    with pytest.raises(InputError, match=message):
        load_tree(tmp_path / "t")


@pytest.mark.parametrize("zarr3", [True, False])
def test_a_lost_chunk_is_no_zeros(tmp_path: Path, zarr3: bool) -> None:
    tree = {"lost": np.ones((3, 4)), "zeros": np.zeros(3)}
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=zarr3)
    ocp.Checkpointer(handler).save(tmp_path / "t", tree)
    np.testing.assert_array_equal(load_tree(tmp_path / "t")["zeros"], 0)
    chunks = [f for f in (tmp_path / "t/lost").rglob("*") if f.is_file() and f.suffix != ".json"]
    next(file for file in chunks if file.name != ".zarray").unlink()
    with pytest.raises(InputError, match=r"cannot read lost: .*missing"):
        TreeReader(tmp_path / "t").read("lost")
    with pytest.raises(InputError, match="cannot read lost"):
        load_tree(tmp_path / "t")


def test_a_save_that_was_never_merged(tmp_path: Path) -> None:
    ocp.PyTreeCheckpointer().save(tmp_path / "t", TREE)
    (tmp_path / "t/manifest.ocdbt").unlink()
    assert (tmp_path / "t/ocdbt.process_0").is_dir()
    with pytest.raises(InputError, match="t: saving was interrupted: the parts of its processes"):
        TreeReader(tmp_path / "t")


def test_an_unfinished_writer_leaves_no_metadata(tmp_path: Path) -> None:
    with pytest.raises(KeyError), TreeWriter(tmp_path / "t"):
        raise KeyError
    assert not (tmp_path / "t/_METADATA").exists()


def test_shapes_without_values(tmp_path):
    tree = {"a": {"b": np.zeros((2, 3), ml_dtypes.bfloat16)}, "c": np.zeros(4, "i4")}
    save_tree(tmp_path / "t", tree)
    found = load_shapes(tmp_path / "t")
    assert (found["a"]["b"].shape, found["a"]["b"].dtype) == ((2, 3), ml_dtypes.bfloat16)
    assert (found["c"].shape, found["c"].dtype) == ((4,), np.int32)


def test_an_error_waits_for_the_writes_so_that_the_folder_can_be_removed(tmp_path: Path) -> None:
    values = np.ones((64, 2**18), np.float32)
    with pytest.raises(KeyError), TreeWriter(tmp_path / "p") as writer:
        writer.create("a", values.shape, "float32", layered=True)
        writes = [writer.write("a", values[i], i) for i in range(len(values))]
        raise KeyError
    assert all(write.done() for write in writes)
    shutil.rmtree(tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    "name", ["run%41", "100%s x", "a#b?c", "lr%3D1e-4", "-leading", "\u03c00 \u00e9", "it's\n2"]
)
def test_a_path_is_data(tmp_path, name):
    """Whatever characters it has; "run%41" once read and wrote the folder "runA"."""
    save_tree(tmp_path / "runA", {"a": np.zeros(2)})
    tree = {"a": np.arange(3.0)}
    save_tree(tmp_path / name, tree)
    np.testing.assert_array_equal(load_tree(tmp_path / name)["a"], tree["a"])
    with TreeWriter(tmp_path / name / "written") as writer:
        writer.create("a", (3,), "float64", layered=False)
        writer.write("a", tree["a"])
    found = load_tree(tmp_path / name / "written")["a"]
    np.testing.assert_array_equal(found, tree["a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"runA", name})
