"""Videos that the tests read back."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np


def read_video(path: Path) -> np.ndarray:
    """All frames of a video, uint8[t, h, w, 3] RGB."""
    return iio.imread(path, plugin="pyav")
