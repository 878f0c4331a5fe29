"""The robot: what it is made of, its limits, and its way through a JSON file."""

import dataclasses
import json

import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.robot import Dimension, Robot, named, numbered, robot_from_dict

HALF = Robot(
    name="half",
    cameras=("top",),
    state=(*named(("x", "y"), "m"), Dimension("grip")),
    actions=(Dimension("dx", "m", -1.0, 1.0), Dimension("dy", "m"), Dimension("grip", low=0.0)),
    gripper="high_opens",
    control_hz=50.0,
    masked_cameras=("right",),
)


def test_clip_moves_only_what_a_limit_asks_for():
    actions = np.array([[2.0, 2.0, 2.0], [-3.0, -3.0, -3.0]], np.float32)
    clipped = HALF.clip(actions)
    np.testing.assert_array_equal(clipped, [[1.0, 2.0, 2.0], [-1.0, -3.0, 0.0]])
    assert clipped.dtype == np.float32


def test_a_robot_without_limits_gives_the_same_bits():
    free = dataclasses.replace(HALF, actions=numbered("action", 3))
    actions = np.random.default_rng(0).normal(scale=1e6, size=(2, 5, 3))
    np.testing.assert_array_equal(free.clip(actions), actions)


def test_a_robot_comes_back_from_json():
    assert robot_from_dict(json.loads(json.dumps(dataclasses.asdict(HALF)))) == HALF


def test_dimensions_without_names_are_numbered():
    assert [d.name for d in numbered("action", 3)] == ["action_0", "action_1", "action_2"]
    assert named(("a",), "rad", limit=0.5) == (Dimension("a", "rad", -0.5, 0.5),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": ()}, "expected at least one camera and one action"),
        ({"actions": ()}, "expected at least one camera and one action"),
        ({"cameras": ("top", "top")}, "every camera needs its own name"),
        ({"masked_cameras": ("top",)}, "every camera needs its own name"),
        ({"state": named(("x", "x"), "m")}, "every state needs its own name"),
        ({"gripper": "closed"}, "robot.gripper must be one of 'unknown', 'none', 'high_closes'"),
    ],
)
def test_what_is_no_robot(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(HALF, **changes)


def test_limits_the_wrong_way_round():
    with pytest.raises(InputError, match=r"dimension 'x': low 1\.0 is above high -1.0"):
        Dimension("x", low=1.0, high=-1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": "top"}, "cameras must be a tuple, got the string 'top'"),
        ({"state": ("x",)}, "state must hold Dimension, got 'x'"),
        ({"actions": "xyz"}, "actions must be a tuple, got the string 'xyz'"),
    ],
)
def test_a_forgotten_comma_and_plain_names_are_an_error(change, message):
    values = {"cameras": ("top",), "state": numbered("s", 1), "actions": numbered("a", 1)}
    with pytest.raises(InputError, match=message):
        Robot("x", **values | change)


@pytest.mark.parametrize("limit", ["1", True, float("nan")])
def test_a_limit_is_a_number(limit):
    with pytest.raises(InputError, match=r"limit .* is no number"):
        Dimension("x", low=limit)


@pytest.mark.parametrize("cameras", ["top", [1], None])
def test_cameras_are_a_list_of_names(cameras):
    with pytest.raises(InputError, match=r"key robot\.cameras(\.0)? must be a (list|word)"):
        robot_from_dict(dataclasses.asdict(HALF) | {"cameras": cameras})
