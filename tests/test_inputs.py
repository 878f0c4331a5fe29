"""The door of a policy: each fault is one sentence that names expected and got."""

import dataclasses

import numpy as np
import pytest

from pi0_jax import testing
from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.errors import InputError
from pi0_jax.policy.inputs import check_noise, check_observations

GOOD = testing.raw_obs()
IMAGES = GOOD.images


def with_nan(state: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(state)) == 1, np.nan, state)


def test_what_is_right_passes():
    check_observations([GOOD, testing.raw_obs(size=40, seed=3)], SCRIPTED_ROBOT)
    check_observations((dataclasses.replace(GOOD, state=GOOD.state.astype(float)),), SCRIPTED_ROBOT)
    one = dataclasses.replace(GOOD, camera_mask=np.array([True, False]))
    check_observations([one], SCRIPTED_ROBOT)
    check_noise(np.zeros((2, 4, 8), np.float32), (2, 4, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES / 255.0}, r"uint8\[2, height, width, 3\] .*got float64\[2, 16, 16, 3\]"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"\[2, 3, 16, 16\]; move the colours to the"),
        ({"images": IMAGES[:1]}, r"\(fixed, hand\), got uint8\[1, 16, .*needs a camera_mask"),
        ({"images": IMAGES[0]}, r"expected images uint8\[2, .*got uint8\[16, 16, 3\]$"),
        ({"images": IMAGES[:, :0]}, "which has no pixel"),
        ({"images": IMAGES.tolist()}, "got list; np.stack them"),
        ({"state": GOOD.state[:6]}, r"a state of 8 numbers \(x, y, .*got float32\[6\]"),
        ({"state": with_nan(GOOD.state)}, r"finite state, got NaN or infinity in \['y'\]"),
        ({"state": np.array(["a"] * 8)}, "a state of 8 numbers"),
        ({"prompt": b"go"}, "expected the instruction as a string, got b'go'"),
        ({"camera_mask": np.array([True])}, r"expected camera_mask bool\[2\], got bool\[1\]"),
        ({"camera_mask": np.array([False, False])}, "hides every camera"),
    ],
)
def test_what_is_wrong_is_one_sentence(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        check_observations([GOOD, dataclasses.replace(GOOD, **changes)], SCRIPTED_ROBOT)
    assert str(caught.value).startswith("observation 1: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ([], "at least one observation, got none"),
        (GOOD, "got one that is in no list"),
        (None, "a list of at least one observation, got NoneType"),
        (IMAGES, "a list of at least one observation, got ndarray"),
        ([IMAGES], "observation 0: expected a RawObs, got ndarray"),
    ],
)
def test_what_is_no_list_of_observations(observations, message):
    with pytest.raises(InputError, match=message):
        check_observations(observations, SCRIPTED_ROBOT)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.zeros((1, 4, 8), np.float32), r"noise float32\[2, 4, 8\] .*got float32\[1, 4, 8\]"),
        (np.zeros((2, 4, 8), int), r"got int64\[2, 4, 8\]"),
        (np.full((2, 4, 8), np.inf), "expected finite noise"),
    ],
)
def test_noise_that_does_not_fit(noise, message):
    with pytest.raises(InputError, match=message):
        check_noise(noise, (2, 4, 8))
