"""Augmented pictures: what changes, what does not, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pi0_jax.data.augment import Change, draw_change
from pi0_jax.data.augment import augment as eager_augment

# One program per size of pictures; one operation at a time, each would be compiled on its own.
augment = jax.jit(eager_augment, static_argnums=2)

SIZE = 40
NONE = {"shift": [0.0, 0.0], "angle": 0.0, "brightness": 0.0, "contrast": 0.0, "hue": 0.0}


def change(**values) -> Change:
    """The same for one sample and two cameras."""
    return Change(*(jnp.array([[x, x]], jnp.float32) for x in (NONE | values).values()))


def grey(level: int) -> np.ndarray:
    return np.full((1, 2, 4, 4, 3), level, np.uint8)


def one_picture(**values) -> np.ndarray:
    """A white row (third from the top) and column (tenth from the left) on black, fixed camera."""
    image = np.zeros((1, 2, SIZE, SIZE, 3), np.uint8)
    image[:, :, 2], image[:, :, :, 9] = 255, 255
    return np.asarray(augment(image, change(**values), (False, True)))


def test_no_change_is_the_network_s_own_scaling():
    image = np.random.default_rng(0).integers(256, size=(3, 2, 8, 8, 3), dtype=np.uint8)
    none = jax.tree.map(lambda x: jnp.broadcast_to(x[:, :1], (3, 2, *x.shape[2:])), change())
    same = augment(image, none, (True, True))
    np.testing.assert_allclose(same, image / 255.0 * 2.0 - 1.0, atol=1e-5)
    assert same.dtype == jnp.float32


def test_a_camera_on_the_hand_is_not_moved():
    found = one_picture(shift=[1.0, -1.0], angle=0.05)
    assert not np.allclose(found[0, 0], one_picture()[0, 0], atol=0.1)
    np.testing.assert_allclose(found[0, 1], one_picture()[0, 1], atol=1e-6)


def test_a_crop_shows_one_end_or_the_other():
    """38 of 40 rows: at the top, row 2 is still near row 2; at the bottom, in the first two."""
    top, bottom = (one_picture(shift=[down, 0.0])[0, 0, :, 30, 0] for down in (-1.0, 1.0))
    assert top.argmax() == 2
    assert top[2] > 0.5
    assert bottom[:2].max() > bottom[2:].max() == -1.0


def test_corners_are_black_where_a_turn_reaches_out_of_the_picture():
    white = np.full((1, 2, SIZE, SIZE, 3), 255, np.uint8)
    moved = change(shift=[-1.0, -1.0], angle=np.radians(5))
    found = np.asarray(augment(white, moved, (False, True)))
    assert found[0, 0].min() == -1.0
    np.testing.assert_allclose(found[0, 0, 5:-5, 5:-5], 1.0, atol=1e-5)
    np.testing.assert_allclose(found[0, 1], 1.0, atol=1e-5)


def test_a_turn_moves_the_corners_and_not_the_centre():
    image = np.zeros((1, 2, 41, 41, 3), np.uint8)
    image[:, :, 20, 20] = 255  # the centre
    image[:, :, 20, 36] = 200  # sixteen to its right
    turned = np.asarray(augment(image, change(angle=np.radians(5)), (False, True)))[0, 0, ..., 0]
    assert turned[20, 20] > 0.9
    # 16 / 0.95 pixels away at 5 degrees: 1.5 rows up or down.
    right = turned.copy()
    right[:, :30] = -1.0
    y, x = np.unravel_index(right.argmax(), right.shape)
    assert abs(y - 20) in (1, 2)
    assert x in (36, 37)


@pytest.mark.parametrize(
    ("level", "brightness", "expected"),
    [(100, 0.0, 100), (100, -0.3, 70), (155, 0.3, 185), (0, 0.3, 76.5), (255, 0.3, 255)],
)
def test_brightness_goes_a_share_of_the_way(level, brightness, expected):
    found = augment(grey(level), change(brightness=brightness), (True, True))
    np.testing.assert_allclose((found + 1) / 2 * 255, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("contrast", [-0.4, 0.0, 0.2, 0.4])
def test_contrast_keeps_the_ends_and_the_middle(contrast):
    levels = jnp.linspace(0, 1, 101)
    image = jnp.broadcast_to(levels[:, None, None], (1, 2, 101, 1, 3)) * 255
    curve = (augment(image, change(contrast=contrast), (True, True)) + 1)[0, 0, :, 0, 0] / 2
    np.testing.assert_allclose(curve[jnp.array([0, 50, 100])], [0.0, 0.5, 1.0], atol=1e-6)
    assert (np.diff(curve) > 0).all()
    slope = (curve[55] - curve[45]) / 0.1
    np.testing.assert_allclose(slope, np.tan((1 + contrast) * np.pi / 4), rtol=1e-4)


def test_hue_and_saturation_stay():
    image = np.broadcast_to(np.array([200, 100, 50], np.uint8), (1, 2, 4, 4, 3))
    found = augment(image, change(brightness=-0.3, contrast=0.2), (True, True))
    pixel = (np.asarray(found)[0, 0, 0, 0] + 1) / 2
    np.testing.assert_allclose(pixel / pixel[0], [1.0, 0.5, 0.25], rtol=1e-4)


@pytest.mark.parametrize(
    ("rgb", "turn", "expected"),
    [
        ((200, 100, 100), 0.1, (200, 160, 100)),  # red towards yellow: 0.6 of the way
        ((100, 200, 100), -0.1, (160, 200, 100)),
        ((100, 100, 200), 0.1, (160, 100, 200)),
        ((200, 100, 100), -0.1, (200, 100, 160)),
        ((90, 90, 90), 0.1, (90, 90, 90)),
        ((0, 0, 0), 0.1, (0, 0, 0)),
        ((200, 100, 50), 0.0, (200, 100, 50)),
    ],
)
def test_a_turn_of_the_hue(rgb, turn, expected):
    image = np.broadcast_to(np.array(rgb, np.uint8), (1, 2, 4, 4, 3))
    found = np.asarray(augment(image, change(hue=turn), (True, True)))
    np.testing.assert_allclose((found[0, 1, 2, 3] + 1) / 2 * 255, expected, atol=1e-2)


def test_draws_are_within_bounds_and_half_of_the_colours_change():
    drawn = draw_change(jax.random.key(0), (500, 2))
    for values, most in zip(drawn, (1.0, np.radians(5), 0.3, 0.4, 0.1), strict=True):
        assert 0.95 * most < np.abs(values).max() <= most
    assert 0.45 < np.mean(drawn.brightness == 0) < 0.55
    np.testing.assert_array_equal(drawn.brightness == 0, drawn.contrast == 0)
    np.testing.assert_array_equal(drawn.brightness == 0, drawn.hue == 0)
    assert len(np.unique(drawn.angle)) == 1000
