"""Image augmentation on the device, as strong as openpi's (`models/model.py` with augmax).

A fixed camera's picture is cropped and turned a little. A hand camera's is not: where an object is
in that picture tells where it is relative to the hand. Colours change in both. openpi also asks for
a change of saturation, which augmax computes and then drops, so there is none here.

Axis letters: b batch, c camera, h w image.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

# Sizes of openpi's `preprocess_observation`.
_CROP = 0.95  # side of the crop, as a share of the picture's side
_ANGLE = math.radians(5)
_BRIGHTNESS, _CONTRAST = 0.3, 0.4
_HUE = 0.1  # in turns; openpi does not ask for it, but has augmax's default
_COLOUR_SHARE = 0.5  # share of the pictures whose colours change


class Change(NamedTuple):
    """What is done to every picture, each float32 with leading axes [b, c].

    Attributes:
        shift: [b, c, 2], centre of the crop (vertical, horizontal), from -1 (as far up or left as
            possible) to 1 (as far down or right as possible).
        angle: [b, c], rotation [rad].
        brightness: [b, c], from -1 (black) over 0 (as it is) to 1 (white).
        contrast: [b, c], from -1 (none) over 0 (as it is) to 1 (two values only).
        hue: [b, c], added to the hue, in turns.
    """

    shift: jax.Array
    angle: jax.Array
    brightness: jax.Array
    contrast: jax.Array
    hue: jax.Array


def draw_change(rng: jax.Array, pictures: tuple[int, ...]) -> Change:
    """Draws a change for each of [b, c] pictures.

    Args:
        rng: random key.
        pictures: shape (b, c).
    """
    shift, angle, brightness, contrast, hue, chosen = jax.random.split(rng, 6)
    # One draw per picture: all three colour changes happen together or not at all.
    coloured = jax.random.bernoulli(chosen, _COLOUR_SHARE, pictures)  # [b, c]

    def within(key: jax.Array, most: float) -> jax.Array:
        """Uniform in [-most, most]."""
        return jax.random.uniform(key, pictures, minval=-most, maxval=most)

    return Change(
        jax.random.uniform(shift, (*pictures, 2), minval=-1.0, maxval=1.0),
        within(angle, _ANGLE),
        jnp.where(coloured, within(brightness, _BRIGHTNESS), 0.0),
        jnp.where(coloured, within(contrast, _CONTRAST), 0.0),
        jnp.where(coloured, within(hue, _HUE), 0.0),
    )


def augment(images: jax.Array, change: Change, on_hand: tuple[bool, ...]) -> jax.Array:
    """Crops, turns and recolours pictures, as if light and mounting were different.

    Args:
        images: uint8[b, c, h, w, 3].
        change: what is done to every picture.
        on_hand: c values, True for a camera that is neither cropped nor turned.

    Returns:
        float32[b, c, h, w, 3] in [-1, 1].
    """
    pixels = jnp.asarray(images, jnp.float32) / 255.0
    # Known when the program is compiled: hand cameras cost no warp.
    fixed = [camera for camera, moves in enumerate(on_hand) if not moves]
    if fixed:
        at = jnp.array(fixed)
        warp = jax.vmap(jax.vmap(_crop_and_turn))  # over [b, c]
        warped = warp(pixels[:, at], change.shift[:, at], change.angle[:, at])
        pixels = pixels.at[:, at].set(warped)
    coloured = jax.vmap(jax.vmap(_recolour))(pixels, change)
    return coloured * 2.0 - 1.0


def _crop_and_turn(image: jax.Array, shift: jax.Array, angle: jax.Array) -> jax.Array:
    """float32[h, w, 3] sampled once, bilinearly: crop, enlarge to the old size, then turn."""
    size = jnp.array(image.shape[:2], jnp.float32)
    rows, columns = jnp.indices(image.shape[:2], dtype=jnp.float32)
    # For every pixel of the result, the place in the source: one interpolation instead of three.
    y, x = rows - (size[0] - 1) / 2, columns - (size[1] - 1) / 2  # [h, w], 0 in the middle
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.stack([cos * y + sin * x, -sin * y + cos * x])  # [2, h, w]
    centre = (size - 1) / 2 + shift * (1 - _CROP) / 2 * size
    where = list(_CROP * turned + centre[:, None, None])

    def sampled(channel: jax.Array) -> jax.Array:
        """float32[h, w]; black where the crop reaches out of the picture."""
        return map_coordinates(channel, where, order=1, mode="constant")

    return jax.vmap(sampled, in_axes=-1, out_axes=-1)(image)


def _recolour(image: jax.Array, change: Change) -> jax.Array:
    """float32[h, w, 3] with another hue and value, and the same saturation (HSV)."""
    value, least = image.max(-1), image.min(-1)
    changed = _contrasted(_brightened(value, change.brightness), change.contrast)
    saturation = (value - least) / jnp.where(value > 0, value, 1.0)
    return _from_hsv(_hue(image, value, value - least) + change.hue, saturation, changed)


def _hue(image: jax.Array, value: jax.Array, range_: jax.Array) -> jax.Array:
    """float32[h, w] in turns; 0 is red, a third green, and greys count as red."""
    r, g, b = jnp.moveaxis(image / jnp.where(range_ > 0, range_, 1.0)[..., None], -1, 0)
    # Which channel is the largest decides the third of the circle; the rest is blue's.
    of_largest = [(image[..., 0] == value, g - b), (image[..., 1] == value, 2.0 + b - r)]
    conditions, sixths = zip(*of_largest, strict=True)
    return jnp.where(range_ > 0, jnp.select(conditions, sixths, 4.0 + r - g) / 6.0, 0.0)


def _from_hsv(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """float32[h, w, 3]: each channel falls off linearly around the circle of hues."""
    sixths = (jnp.array([5.0, 3.0, 1.0]) + 6.0 * hue[..., None]) % 6.0
    missing = jnp.clip(jnp.minimum(sixths, 4.0 - sixths), 0.0, 1.0)  # [h, w, 3]
    return value[..., None] * (1.0 - saturation[..., None] * missing)


def _brightened(value: jax.Array, amount: jax.Array) -> jax.Array:
    """Moves a value towards black (amount < 0) or white (> 0), by that share of the way."""
    return value * (1.0 - jnp.abs(amount)) + jnp.maximum(amount, 0.0)


def _contrasted(value: jax.Array, amount: jax.Array) -> jax.Array:
    """Maps values by a line of another slope through the middle; 0 and 1 stay where they are."""
    slope = jnp.tan((amount + 1.0) * (jnp.pi / 4))
    bend = slope / (2.0 * (1.0 + slope))
    middle = slope * (value - 0.5) + 0.5
    # Near 0 and 1 a line of the inverse slope takes over, so that nothing is clipped.
    ends = jnp.where(value < bend, value / slope, (value - 1.0) / slope + 1.0)
    return jnp.where((value < bend) | (value > 1.0 - bend), ends, middle)
