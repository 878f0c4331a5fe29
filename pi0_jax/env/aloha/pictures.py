"""Pictures of gym-aloha's model: exactly as gym-aloha renders them, or coarse and fast.

The coarse picture has no shadows and shows meshes by their convex hulls: 4 ms instead of 110 ms
where a processor draws.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

_CAMERA = "top"  # gym-aloha's name; openpi's is cam_high
_ASPECT = 4 / 3


class TopPictures:
    """Renders what the camera above the table sees.

    Args:
        model: the model; only its settings for pictures are changed.
        height: px; the width is 4/3 of it.
        coarse: whether speed counts more than gym-aloha's pixels.
    """

    def __init__(self, model: mujoco.MjModel, height: int, *, coarse: bool) -> None:
        width = round(_ASPECT * height)
        # The off-screen buffer is 640 x 480 unless asked otherwise.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._renderer = mujoco.Renderer(model, height, width)
        self._option = mujoco.MjvOption()
        if coarse:
            self._option.flags[mujoco.mjtVisFlag.mjVIS_CONVEXHULL] = 1
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._renderer.scene.flags[flag] = 0

    def observe(self, data: mujoco.MjData) -> np.ndarray:
        """uint8[1, h, w, 3], upright."""
        self._renderer.update_scene(data, _CAMERA, self._option)
        return self._renderer.render()[None]

    def close(self) -> None:
        """Frees the GL context."""
        self._renderer.close()
