"""Cameras of a lerobot policy by type, and the widths of its state and actions."""

from pathlib import Path
from typing import Any

import pytest

from pi0_jax.convert.settings.lerobot_features import read_features
from pi0_jax.errors import InputError

HERE = Path("config.json")


def inputs(*cameras: str, **others: Any) -> dict[str, Any]:
    visual = {name: {"type": "VISUAL", "shape": [3, 8, 8]} for name in cameras}
    return {"input_features": visual | others}


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (["observation.images.top", "observation.images.wrist"], ("top", "wrist")),
        (["observation.image"], ("image",)),
        (["observation.image.top"], ("top",)),
        (["observation.wrist_image", "observation.image"], ("wrist_image", "image")),
        (["observation.image", "observation.images.wrist_image"], ("image", "wrist_image")),
        (["front", "observation.images.arm.left"], ("front", "arm.left")),
        (["observation.images.empty_camera_0", "observation.images.top"], ("top",)),
    ],
)
def test_names_after_the_last_fixed_part(features: list[str], names: tuple[str, ...]) -> None:
    assert read_features(inputs(*features), {}, HERE).cameras == names


def test_a_renamed_camera_has_the_robots_name() -> None:
    rename = {"observation.images.front": "observation.images.base_0_rgb"}
    found = read_features(inputs("observation.images.base_0_rgb"), rename, HERE)
    assert found.cameras == ("front",)


def test_a_camera_that_is_not_there_is_left_out() -> None:
    # lerobot names its placeholders so, and masks them.
    empty = "observation.images.empty_camera_1"
    values = inputs("front", empty, "observation.images.empty_camera_left")
    found = read_features(values, {}, HERE)
    assert found.cameras == ("front", "empty_camera_left")
    assert f"{empty}: taken for cameras that are not there" in found.notes[0]
    assert read_features(values | {"empty_cameras": 2}, {}, HERE).notes == ()


def test_widths_are_those_of_the_two_features_that_lerobot_reads() -> None:
    values = inputs(
        "observation.image",
        **{
            "observation.state": {"type": "STATE", "shape": [8]},
            "observation.environment_state": {"type": "ENV", "shape": [20]},
        },
    )
    values["output_features"] = {"action": {"type": "ACTION", "shape": [7]}}
    found = read_features(values, {}, HERE)
    assert (found.state, found.action) == (8, 7)
    assert read_features({"input_features": None}, {}, HERE).cameras == ()


@pytest.mark.parametrize(
    ("values", "rename", "message"),
    [
        (inputs("observation.images.empty_camera_0"), {}, "expected a feature of type VISUAL"),
        (inputs("observation.image", "observation.images.image"), {}, "cameras of the same name"),
        (inputs("a"), {"b": "c"}, "renamed to c, which the policy does not read"),
        (inputs("a"), {"b": "a", "c": "a"}, "b, c are all renamed to a"),
        (inputs("a"), {"observation.state": "a"}, "makes a of observation.state; a state is no"),
        (inputs("a"), {"observation.environment_state": "a"}, "a state is no camera"),
        (inputs("a"), {"a": "observation.state"}, "makes observation.state of a; a state is no"),
        (
            inputs("a"),
            {"observation.images.x": "observation.state"},
            "makes observation.state of observation.images.x",
        ),
        (
            inputs("a"),
            {"b": "observation.state", "c": "observation.state"},
            "b, c are all renamed to observation.state",
        ),
        (
            inputs("a", "observation.images.empty_camera_0"),
            {"b": "observation.images.empty_camera_0"},
            "renamed to observation.images.empty_camera_0, which the policy does not read",
        ),
        (inputs(a={"type": "VISUAL", "shape": 3}), {}, "input_features.a.shape is 3, expected a l"),
        (inputs(a={"shape": [3]}), {}, "input_features.a.type is missing"),
        (inputs("a", b={"type": "ENV", "shape": [1], "unit": 2}), {}, r"b.unit \(2\) is unknown"),
        (inputs("a", x={"type": "AUDIO", "shape": [1]}), {}, "x of unknown type 'AUDIO'"),
        (inputs(d={"type": "VISUAL", "shape": [1, 8, 8]}), {}, "d of shape .* no colour image"),
        (
            inputs("a", **{"observation.state": {"type": "ENV", "shape": [8]}}),
            {},
            "expected observation.state to be a STATE vector",
        ),
        ({"output_features": {"tool": {"type": "ACTION", "shape": [7]}}}, {}, "output action only"),
    ],
)
def test_what_cannot_be_carried_is_refused(
    values: dict[str, Any], rename: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_features(values, rename, HERE)
