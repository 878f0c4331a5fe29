"""What a skill reads from a LIBERO environment: shapes, places, joints, and whether goals hold."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from pi0_jax.env.robosuite.grasps import box_points
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.skills.joint import Joint

_TABLES = ("table", "living_room_table", "study_table")  # LIBERO's names; a scene has one or none
_CORRIDOR = 0.11  # m that must be free to each side of a straight move: half the hand's width


class Scene:
    """Geometry of the present state, world frame.

    Args:
        env: LIBERO's environment.
        arm: the environment's arm; its present pose is the hand's at rest.
    """

    def __init__(self, env: Any, arm: PandaArm) -> None:
        self.arm, self._env, self._model, self._data = arm, env, arm.model, arm.data
        self.home, self.rest = arm.position, arm.rotation
        self._roots = self._model.body_rootid[self._model.geom_bodyid]
        # Shapes of doors collide with what touches them, but do not ask to.
        self._solid = (self._model.geom_contype | self._model.geom_conaffinity) > 0
        robot = self._model.body("robot0_base").id
        tables = [self._id(mujoco.mjtObj.mjOBJ_BODY, name) for name in _TABLES]
        surface = self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        self._apart = np.isin(self._roots, [robot, *tables]) | surface
        table = self._solid & np.isin(self._roots, [body for body in tables if body >= 0])
        self.top = float(self._filled(table)[:, 2].max(initial=0.0))

    @property
    def goals(self) -> list[list[str]]:
        """The task's goal: predicates that shall all hold, each a name with its arguments."""
        return self._env.parsed_problem["goal_state"]

    def holds(self, predicate: Sequence[str]) -> bool:
        """Whether LIBERO says that a predicate is true now."""
        return bool(self._env._eval_predicate(list(predicate)))

    def origin(self, name: str) -> np.ndarray:
        """float64[3], m: the origin of an object."""
        return self._data.xpos[self._env.obj_body_id[name]].copy()

    def place(self, name: str) -> np.ndarray:
        """float64[3], m: the middle of a region, or the origin of an object."""
        site = self._id(mujoco.mjtObj.mjOBJ_SITE, name)
        return self._data.site_xpos[site].copy() if site >= 0 else self.origin(name)

    def points(self, name: str) -> np.ndarray:
        """float64[n, 3], m: points that fill an object."""
        return self._filled(self._own(name))

    def others(self, name: str) -> np.ndarray:
        """float64[n, 3], m: points that fill everything but an object, the robot and the table."""
        return self._filled(self._solid & ~self._apart & ~self._own(name))

    def everything(self) -> np.ndarray:
        """float64[n, 3], m: points that fill everything but the robot and the table."""
        return self._filled(self._solid & ~self._apart)

    def joint(self, name: str) -> Joint:
        """The joint of a region inside a drawer, or of a fixture with a knob."""
        regions = self._env.object_sites_dict
        owner = regions[name] if name in regions else self._env.get_object(name)
        (joint,) = owner.joints
        return Joint(self._model, self._data, self._model.joint(joint).id)

    def in_drawer(self, name: str) -> bool:
        """Whether a place is a region inside a drawer."""
        region = self._env.object_sites_dict.get(name)
        return region is not None and bool(region.joints)

    def highest(self, others: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
        """Height [m] of the highest of the points float64[n, 3] near the way between two places."""
        way = (end - start)[:2]
        along = (others - start)[:, :2] @ way / max(float(way @ way), 1e-9)
        nearest = start[:2] + np.clip(along, 0, 1)[:, None] * way
        beside = np.linalg.norm(others[:, :2] - nearest, axis=1) < _CORRIDOR
        return float(others[beside][:, 2].max(initial=self.top))

    def _own(self, name: str) -> np.ndarray:
        return self._solid & (self._roots == self._env.obj_body_id[name])

    def _filled(self, geoms: np.ndarray) -> np.ndarray:
        return box_points(self._model, self._data, np.flatnonzero(geoms).tolist())

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        return mujoco.mj_name2id(self._model, kind, name)
