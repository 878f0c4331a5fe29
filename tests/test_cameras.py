"""One view, several names."""

import pytest

from pi0_jax.data.cameras import check_cameras
from pi0_jax.errors import InputError

LIBERO = ("agentview", "robot0_eye_in_hand")


@pytest.mark.parametrize(
    "policy",
    [
        LIBERO,
        ("base_0_rgb", "left_wrist_0_rgb"),
        ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),  # the third is always masked
        ("image", "image2"),
        ("image", "wrist_image"),
    ],
)
def test_published_names_mean_libero_s_cameras(policy):
    check_cameras(policy, LIBERO)


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
        check_cameras(policy, LIBERO)


def test_a_name_of_nobody_stands_for_itself():
    check_cameras(("top", "side"), ("top", "side"))
