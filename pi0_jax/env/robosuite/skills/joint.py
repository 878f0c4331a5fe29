"""A drawer's slide or a knob's hinge, as a skill sees it."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from pi0_jax.env.robosuite.grasps import box_points


class Joint:
    """The one joint of a moving part; poses are those of the present state, world frame.

    Args:
        model: the model.
        data: its state.
        joint: number of the joint.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, joint: int) -> None:
        self._model, self._data, self._joint = model, data, joint
        geoms = np.flatnonzero(
            (model.geom_bodyid == model.jnt_bodyid[joint]) & (model.geom_contype > 0)
        )
        self._geoms: list[int] = geoms.tolist()

    @property
    def value(self) -> float:
        """How far [m or rad] it is from where it was built, in the direction of `way`."""
        return self._sign * float(self._data.qpos[self._model.jnt_qposadr[self._joint]])

    @property
    def travel(self) -> float:
        """The value [m or rad] at the far end."""
        return float(abs(self._model.jnt_range[self._joint]).max())

    @property
    def way(self) -> np.ndarray:
        """float64[3]: the direction (slide) or the axis (hinge) of motion to the far end."""
        return self._sign * self._data.xaxis[self._joint]

    @property
    def anchor(self) -> np.ndarray:
        """float64[3], m: a point on the axis."""
        return self._data.xanchor[self._joint].copy()

    @property
    def _sign(self) -> float:
        low, high = self._model.jnt_range[self._joint]
        return 1.0 if high > -low else -1.0

    def points(self) -> np.ndarray:
        """float64[n, 3], m: points that fill the moving part."""
        return box_points(self._model, self._data, self._geoms)

    def handle(self) -> np.ndarray:
        """float64[3], m: the middle of a drawer's handle: of the shape that stands out most."""
        clouds = [box_points(self._model, self._data, [geom]) for geom in self._geoms]
        bar = max(clouds, key=lambda cloud: float((cloud @ self.way).max()))
        return (bar.min(0) + bar.max(0)) / 2
