"""Pictures of a robosuite model: coarse and fast, or exactly as robosuite renders them.

The coarse pictures draw the arm by its collision shapes: 5k faces instead of 180k, 3 ms instead
of 66 ms for two cameras; objects and fingers look the same. Video frames show the real meshes.
"""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence

import mujoco
import numpy as np

VIDEO_SIZE = 256  # px
_SUPERSAMPLE = 2  # rendered pixels per side of a pixel: smooth edges at little cost
# Geom groups; robosuite uses 0 for collision shapes and 1 for visual meshes.
_VISUAL, _COARSE, _FINE = 1, 3, 4


class ExactPictures:
    """Renders a model as robosuite does, equal in every pixel, as published checkpoints need it.

    Args:
        model: the model, which is not changed.
        cameras: names of the policy's cameras; videos show the first.
        size: height and width [px] of the policy's images.
    """

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[str], size: int) -> None:
        self._cameras = cameras
        self._option = mujoco.MjvOption()
        self._option.geomgroup[0] = 0  # collision shapes
        self._renderers = {pixels: _renderer(model, pixels) for pixels in {size, VIDEO_SIZE}}
        self._size = size

    def observe(self, data: mujoco.MjData) -> np.ndarray:
        """uint8[c, h, w, 3], turned by 180 degrees as seen from OpenGL's bottom-up rows."""
        # robosuite's rows are bottom-up and openpi turns those by 180 degrees; `_render` is
        # upright already, so what is left is mirroring.
        return np.stack([self._render(data, name, self._size)[:, ::-1] for name in self._cameras])

    def video_frame(self, data: mujoco.MjData) -> np.ndarray:
        """uint8[VIDEO_SIZE, VIDEO_SIZE, 3], upright, of the first camera."""
        return self._render(data, self._cameras[0], VIDEO_SIZE)

    def _render(self, data: mujoco.MjData, camera: str, pixels: int) -> np.ndarray:
        renderer = self._renderers[pixels]
        renderer.update_scene(data, camera, self._option)
        return renderer.render()

    def close(self) -> None:
        """Frees the GL contexts."""
        for renderer in self._renderers.values():
            renderer.close()


class Pictures:
    """Renders one model coarsely.

    Args:
        model: the model; its geoms get other groups and colours, which do not affect the physics.
        cameras: names of the policy's cameras; videos show the first.
        size: height and width [px] of the policy's images.
    """

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[str], size: int) -> None:
        self._cameras = cameras
        self._model = model
        _group_geoms(model)
        self._coarse, self._fine = _visible(_VISUAL, _COARSE), _visible(_VISUAL, _FINE)
        model.vis.quality.offsamples = 0
        self._observer = self._renderer(size * _SUPERSAMPLE)
        self._video: mujoco.Renderer | None = None

    def _renderer(self, size: int) -> mujoco.Renderer:
        renderer = _renderer(self._model, size)
        # Reflections cost a second pass over everything.
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return renderer

    def observe(self, data: mujoco.MjData) -> np.ndarray:
        """uint8[c, h, w, 3], turned by 180 degrees as seen from OpenGL's bottom-up rows."""
        views = []
        for camera in self._cameras:
            self._observer.update_scene(data, camera, self._coarse)
            # `render` is upright already: turning by 180 degrees is mirroring that.
            views.append(_shrink(self._observer.render())[:, ::-1])
        return np.stack(views)

    def video_frame(self, data: mujoco.MjData) -> np.ndarray:
        """uint8[VIDEO_SIZE, VIDEO_SIZE, 3], upright, of the first camera."""
        video = self._video or self._open_video()
        video.update_scene(data, self._cameras[0], self._fine)
        return video.render()

    def _open_video(self) -> mujoco.Renderer:
        self._model.vis.quality.offsamples = 4
        self._video = self._renderer(VIDEO_SIZE)
        return self._video

    def close(self) -> None:
        """Frees the GL contexts."""
        self._observer.close()
        if self._video is not None:
            self._video.close()


def _renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    # The off-screen buffer is 640 x 480 unless asked otherwise.
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    return mujoco.Renderer(model, size, size)


def _group_geoms(model: mujoco.MjModel) -> None:
    """Sorts geoms into coarse and fine ones; groups and colours do not affect the physics."""
    for index in range(model.ngeom):
        name = model.geom(index).name
        if name.startswith(("mount0", "table_leg")) and model.geom_group[index] == _VISUAL:
            model.geom_group[index] = _FINE
        elif name.startswith(("robot0", "gripper0")):
            if name.endswith("pad_collision"):
                continue
            coarse = name.endswith("_collision")
            model.geom_group[index] = _COARSE if coarse else _FINE
            if coarse:
                model.geom_rgba[index, :3] = 0.25 if "finger" in name else 0.85


def _visible(*groups: int) -> mujoco.MjvOption:
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[list(groups)] = 1
    option.sitegroup[:] = 0
    # Draws a collision mesh as its convex hull, which is the shape that collides.
    option.flags[mujoco.mjtVisFlag.mjVIS_CONVEXHULL] = 1
    return option


def _shrink(image: np.ndarray) -> np.ndarray:
    """Averages squares of _SUPERSAMPLE pixels: uint8[h, w, 3] from uint8[2h, 2w, 3]."""
    size, n = len(image) // _SUPERSAMPLE, _SUPERSAMPLE
    sums = image.reshape(size, n, size, n, 3).sum((1, 3), dtype=np.uint16)
    return ((sums + n * n // 2) // (n * n)).astype(np.uint8)
