"""Pictures as a network sees them; NumPy and PIL alone, because simulators resize their own."""

import numpy as np
from PIL import Image


def resize_with_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes without changing the aspect ratio and centres the result on black.

    If the padding is odd, its extra pixel is at the bottom or right.

    Args:
        image: uint8[h, w, 3].
        size: side of the result [px].

    Returns:
        uint8[size, size, 3], bilinear with antialiasing (PIL, as openpi's client).
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    # Truncated, not rounded, as in openpi: another size would shift every pixel.
    ratio = max(height, width) / size
    new_height, new_width = int(height / ratio), int(width / ratio)
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    # Black, as openpi pads; the network was trained with these borders.
    padded[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return padded
