"""One view, several names."""

import pytest

from pi0_jax.data.cameras import check_cameras, find_cameras, on_hand, views_of
from pi0_jax.errors import InputError
from pi0_jax.robot import VIEWS, Robot, numbered
from pi0_jax.robots import load_robot

LIBERO = ("agentview", "robot0_eye_in_hand")


def robot(cameras: tuple[str, ...], views: tuple[str, ...] = ()) -> Robot:
    return Robot("r", cameras, numbered("s", 1), numbered("a", 1), views=views)


@pytest.mark.parametrize(
    "policy",
    [
        LIBERO,
        ("base_0_rgb", "left_wrist_0_rgb"),
        ("image", "image2"),
        ("image", "wrist_image"),
    ],
)
def test_published_names_mean_libero_s_cameras(policy):
    check_cameras(robot(policy), robot(LIBERO))


@pytest.mark.parametrize(
    "policy",
    [
        ("left_wrist_0_rgb", "base_0_rgb"),  # the order matters
        ("base_0_rgb",),
        ("base_0_rgb", "left_wrist_0_rgb", "top"),
        ("front", "robot0_eye_in_hand"),
    ],
)
def test_other_views_are_refused(policy):
    with pytest.raises(InputError, match=r"expects the cameras .*, the task has .*agentview"):
        check_cameras(robot(policy), robot(LIBERO))


def test_a_name_of_nobody_stands_for_itself():
    check_cameras(robot(("top", "side")), robot(("top", "side")))


def test_a_robot_s_file_may_say_what_its_cameras_show():
    """Names of nobody, but the views of openpi's: they fit each other, and one is on the hand."""
    mine = robot(("front", "gripper"), ("base_0_rgb", "left_wrist_0_rgb"))
    assert [*map(on_hand, views_of(mine))] == [False, True]
    check_cameras(robot(LIBERO), mine)
    check_cameras(load_robot("aloha"), robot(VIEWS))
    with pytest.raises(InputError, match="the policy expects the cameras"):
        check_cameras(robot(LIBERO), robot(("front", "gripper")))


def test_a_column_of_the_same_name_goes_before_one_of_the_same_view():
    columns = ("observation.images.image", "observation.images.cam_high")
    assert find_cameras(("cam_high",), columns, "data") == columns[1:]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("image", "wrist_image"), ("image", "wrist_image")),  # openpi
        (("wrist_image", "image"), ("image", "wrist_image")),
        (
            ("observation.images.image2", "observation.images.image", "observation.images.depth"),
            ("observation.images.image", "observation.images.image2"),
        ),
    ],
)
def test_a_data_set_s_columns_are_found_by_view(columns, expected):
    assert find_cameras(LIBERO, columns, "data") == expected
    policy = ("base_0_rgb", "left_wrist_0_rgb")
    assert find_cameras(policy, columns, "data") == expected
    assert find_cameras(LIBERO[::-1], columns, "data") == expected[::-1]


def test_columns_that_are_missing_or_two_of_a_view():
    assert find_cameras(("top",), ("observation.images.top",), "data") == (
        "observation.images.top",
    )
    with pytest.raises(InputError, match=r"data: expected one camera 'agentview', got none of"):
        find_cameras(LIBERO, ("wrist_image",), "data")
    with pytest.raises(InputError, match=r"got \['wrist_image', 'image2'\] of"):
        find_cameras(LIBERO, ("image", "wrist_image", "image2"), "data")


def test_cameras_on_the_hand():
    assert [*map(on_hand, LIBERO)] == [False, True]
    published = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb", "image", "image2")
    assert [*map(on_hand, published)] == [False, True, True, False, True]
