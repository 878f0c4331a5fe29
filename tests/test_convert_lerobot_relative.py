"""lerobot's relative actions by the names of joints, and back."""

import pytest

from pi0_jax.convert.settings.lerobot_relative import Relative, mask_of, settings_for

NAMES = ("x", "y", "Gripper.pos")


@pytest.mark.parametrize(
    ("relative", "mask"),
    [
        (Relative(True, ("gripper",), NAMES), (True, True, False)),
        # Names that lerobot does not have: every action is relative.
        (Relative(True, ("gripper",), None), (True, True, True)),
        (Relative(True, (), NAMES), (True, True, True)),
        (Relative(True, ("",), NAMES), (True, True, True)),
        (Relative(True, ("gripper",), ("gripper",)), (False, True, True)),
        (Relative(True, ("r",), ("arm", "r", "z", "more")), (False, False, True)),
    ],
)
def test_the_mask_is_lerobots(relative: Relative, mask: tuple[bool, ...]) -> None:
    assert mask_of(relative, 3) == mask


@pytest.mark.parametrize(
    ("names", "mask"),
    [
        (NAMES, (True, True, False)),
        (("a", "b", "c"), (True, True, True)),
        # "wrist" is part of the other's name.
        (("wrist_2", "wrist", "z"), (True, False, True)),
    ],
)
def test_settings_give_the_mask_again(names: tuple[str, ...], mask: tuple[bool, ...]) -> None:
    chosen = settings_for(mask, names)
    assert chosen.enabled and mask_of(chosen, len(mask)) == mask


def test_names_are_kept_where_they_do() -> None:
    assert settings_for((True, True, False), NAMES).names == NAMES
    assert settings_for((True, False, True), ("wrist_2", "wrist", "z")).names == (
        "relative_0",
        "absolute_1",
        "relative_2",
    )
    assert settings_for((False, False), ("a", "b")) == Relative(names=("a", "b"))
