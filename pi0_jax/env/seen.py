"""What a policy is to see of a chunk, at the size of its network, made where it was rendered.

A picture of 256 px takes 0.8 ms to resize. In the simulators' processes this is done in parallel,
and less goes from them to the policy.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from pi0_jax.env.base import ChunkResult, Simulator, run
from pi0_jax.pictures import resize_with_pad


def run_seen(simulator: Simulator, side: int, *chunk: Any) -> ChunkResult:
    """Job function: as `base.run`, with pictures as `seen` makes them.

    Args:
        simulator: the simulator.
        side: height and width [px] of the policy's pictures.
        chunk: the arguments of `base.run`.
    """
    return seen(run(simulator, *chunk), side)


def seen(result: ChunkResult, side: int) -> ChunkResult:
    """A result whose observation and looks are uint8[c, side, side, 3], as the policy resizes them.

    Frames of a video keep their size.
    """
    obs = result.obs and replace(result.obs, images=_resized(result.obs.images, side))
    looks = [_resized(look, side) for look in result.looks]
    return replace(result, obs=obs, looks=np.stack(looks) if looks else result.looks)


def _resized(images: np.ndarray, side: int) -> np.ndarray:
    """uint8[c, h, w, 3] to uint8[c, side, side, 3]."""
    return np.stack([resize_with_pad(image, side) for image in images])
