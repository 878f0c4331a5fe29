"""The folder of a run: its only checkpoint is used, several are named."""

from pathlib import Path

import pytest

from pi0_jax.convert.files import checkpoint_below
from pi0_jax.convert.files.checkpoint_below import find, folders
from pi0_jax.errors import InputError


def is_checkpoint(folder: Path) -> bool:
    return (folder / "w").is_file()


def make(root: Path, *places: str) -> None:
    for place in places:
        (root / place).mkdir(parents=True)
        (root / place / "w").touch()


def test_a_checkpoint_is_itself(tmp_path: Path) -> None:
    make(tmp_path, "c", "c/1")
    assert find(tmp_path / "c", is_checkpoint) == (tmp_path / "c", [])


@pytest.mark.parametrize(
    "place",
    ["checkpoints/010000/pretrained_model", "global_step_9/actor/model_state_dict", "29999"],
)
def test_the_only_one_below_is_used(place: str, tmp_path: Path) -> None:
    make(tmp_path, place)
    assert find(tmp_path, is_checkpoint) == (
        tmp_path / place,
        [f"the checkpoint is {tmp_path / place}"],
    )


def test_several_are_named_the_newest_step_first(tmp_path: Path) -> None:
    make(tmp_path, "checkpoints/900/m", "checkpoints/10000/m", "checkpoints/2000/m")
    first, second = tmp_path / "checkpoints/10000/m", tmp_path / "checkpoints/2000/m"
    with pytest.raises(InputError, match=f"several checkpoints; name one: {first}, {second}, "):
        find(tmp_path, is_checkpoint)


def test_a_link_is_no_second_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, "checkpoints/010000/m")
    (tmp_path / "checkpoints/last").symlink_to("010000")
    assert find(tmp_path, is_checkpoint) is not None
    assert find(tmp_path / "checkpoints/last", is_checkpoint) is not None
    # A link to a folder above ends nothing.
    (tmp_path / "checkpoints/010000/up").symlink_to(tmp_path)
    assert len(list(folders(tmp_path))) == 3


def test_states_of_the_training_are_not_searched(tmp_path: Path) -> None:
    make(tmp_path, "1/training_state", "1/optimizer_0", ".git/x", "assets/a")
    assert find(tmp_path, is_checkpoint) is None


def test_a_whole_disk_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_below, "_MOST", 3)
    make(tmp_path, "a/b/c")
    with pytest.raises(InputError, match="more than 3 folders; name the checkpoint's own"):
        find(tmp_path, is_checkpoint)
