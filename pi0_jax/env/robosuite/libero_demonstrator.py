"""The scripted demonstrator of LIBERO's pick-and-place tasks, which reads the simulator's state."""

# mujoco is an extension module without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.grasps import box_points, choose
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.panda_robot import CLOSE, OPEN, move_action

_HALF_RADIAN = 0.5  # rad, the rotation of OSC_POSE for an action of 1
_TURNED, _TURNED_ENOUGH = 0.03, 0.1  # rad, errors that are not corrected, and that allow to go on
_ARRIVED, _PASSED = 0.007, 0.03  # m, distances that count as there, for a stop and for a waypoint
_PATIENCE = 6  # steps without progress after which a move is given up
_NEARER = 0.001  # m, the least progress
_LEVER = 0.1  # m per rad: converts a remaining rotation to a distance when progress is judged
_SLIPPED = 0.03  # m that a held object may have moved in the hand
_CLOSE_STEPS, _OPEN_STEPS, _REST_STEPS = 12, 8, 10
_LIFT = 0.03  # m between a carried object and what is below it
_GAP = 0.015  # m that an object falls when it is released
_WALLED_GAP = {"basket": 0.09, "bowl": 0.05}  # m, the same inside walls, which block the fingers
_CORRIDOR = 0.11  # m that must be free to each side of a straight move: half the hand's width


class Scene:
    """What the demonstrator reads from a LIBERO environment.

    Args:
        env: LIBERO's environment, with one pick-and-place goal.
        arm: the environment's arm.
    """

    def __init__(self, env: Any, arm: PandaArm) -> None:
        self.arm, self._model, self._data = arm, arm.model, arm.data
        _, self.kind, self.target = env.parsed_problem["goal_state"][0]
        self._body: int = env.obj_body_id[self.kind]
        self._site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, self.target)
        self._target_body: int = env.obj_body_id.get(self.target, -1)
        roots = self._model.body_rootid[self._model.geom_bodyid]
        solid = self._model.geom_contype > 0
        robot = self._model.body("robot0_base").id
        surface = self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        table = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_BODY, "table")
        self.top = 0.0 if table < 0 else float(self._data.site("table_top").xpos[2])
        self._own = np.flatnonzero(solid & (roots == self._body)).tolist()
        apart = np.isin(roots, [robot, table, self._body]) | surface
        self._others = np.flatnonzero(solid & ~apart).tolist()

    @property
    def position(self) -> np.ndarray:
        """float64[3], m: the object's origin, world frame."""
        return self._data.xpos[self._body].copy()

    @property
    def goal(self) -> np.ndarray:
        """float64[3], m: the middle of the place for the object, world frame."""
        place = self._data.site_xpos[self._site] if self._site >= 0 else None
        return (self._data.xpos[self._target_body] if place is None else place).copy()

    def points(self) -> np.ndarray:
        """float64[n, 3], m: points that fill the object, world frame."""
        return box_points(self._model, self._data, self._own)

    def others(self) -> np.ndarray:
        """float64[n, 3], m: points that fill everything but the object, the robot and the table."""
        return box_points(self._model, self._data, self._others)


class Hand:
    """Makes actions that move the hand to places, while it points down with a constant yaw.

    Args:
        arm: the arm to move.
        yaw: rad, rotation of the hand about the world's vertical.
        speed: largest translation of an action.
    """

    def __init__(self, arm: PandaArm, yaw: float, speed: float) -> None:
        self._arm, self._speed = arm, speed
        cos, sin = np.cos(yaw), np.sin(yaw)
        self._rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ arm.rotation

    def towards(self, goal: np.ndarray, gripper: float) -> np.ndarray:
        """float64[7]: one action towards `goal`, float64[3] m."""
        action = move_action(goal - self._arm.position, gripper, self._speed)
        turn = self._turn()
        # With a rotation of exactly zero the controller keeps the orientation of the last goal.
        if np.linalg.norm(turn) > _TURNED:
            action[3:6] = np.clip(turn / _HALF_RADIAN, -1, 1)
        return action

    def reach(self, goal: np.ndarray, gripper: float, near: float) -> Iterator[np.ndarray]:
        """Moves to `goal`, float64[3] m, and turns, until within `near` m or without progress."""
        best, since = np.inf, 0
        while since < _PATIENCE:
            way = float(np.linalg.norm(goal - self._arm.position))
            turn = float(np.linalg.norm(self._turn()))
            if way < near and turn < _TURNED_ENOUGH:
                return
            left = way + _LEVER * turn
            best, since = (left, 0) if left < best - _NEARER else (best, since + 1)
            yield self.towards(goal, gripper)

    def stay(self, goal: np.ndarray, gripper: float, steps: int) -> Iterator[np.ndarray]:
        """Stays at `goal`, float64[3] m, while the fingers move."""
        for _ in range(steps):
            yield self.towards(goal, gripper)

    def _turn(self) -> np.ndarray:
        """float64[3] rad: the remaining rotation, world frame."""
        quat, vector = np.empty(4), np.empty(3)
        mujoco.mju_mat2Quat(quat, (self._rotation @ self._arm.rotation.T).ravel())
        mujoco.mju_quat2Vel(vector, quat if quat[0] >= 0 else -quat, 1.0)
        return vector


def pick_and_place(
    scene: Scene, style: DemonstratorConfig, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Picks up the object and places it, once; there is no second try."""
    speed = rng.uniform(*style.speed)
    error = rng.normal(0, [style.offset_sigma, style.offset_sigma, style.offset_sigma_z])
    hover = rng.uniform(*style.hover)
    others = scene.others()
    bottom = _release_height(scene, others)
    shift = np.array([*(scene.goal - scene.position)[:2], bottom - scene.points()[:, 2].min()])
    grasp = choose(scene.kind, scene.points(), others, shift)
    hand = Hand(scene.arm, grasp.yaw, speed)
    place = grasp.position + error
    yield from _pick(scene, hand, place, hover, others)
    yield from _carry(scene, hand, place, shift, others)


def _pick(
    scene: Scene, hand: Hand, place: np.ndarray, hover: float, others: np.ndarray
) -> Iterator[np.ndarray]:
    """Moves above the grasp point, then down, and closes the fingers."""
    here = scene.arm.position
    safe = _highest(others, here, place, scene.top) + _LIFT
    if safe > here[2]:
        yield from hand.reach(np.array([here[0], here[1], safe]), OPEN, _PASSED)
    above = np.array([*place[:2], max(safe, place[2] + hover)])
    yield from hand.reach(above, OPEN, _PASSED)
    yield from hand.reach(place + np.array([0, 0, hover]), OPEN, 1.5 * _ARRIVED)
    yield from hand.reach(place, OPEN, _ARRIVED)
    yield from hand.stay(place, CLOSE, _CLOSE_STEPS)


def _carry(
    scene: Scene, hand: Hand, place: np.ndarray, shift: np.ndarray, others: np.ndarray
) -> Iterator[np.ndarray]:
    """Lifts the object, carries it, lowers it and opens the fingers."""
    hang = place[2] - scene.points()[:, 2].min()
    safe = _highest(others, place, place + shift, scene.top) + hang + _LIFT
    offset = scene.arm.position - scene.position
    yield from hand.reach(np.array([*place[:2], safe]), CLOSE, _PASSED)
    over = np.array([*(scene.goal + offset)[:2], safe])
    yield from hand.reach(over, CLOSE, _ARRIVED)
    now = scene.arm.position - scene.position
    # If the object was not picked up, the moves go on as planned: there is no second try.
    if np.linalg.norm(now - offset) < _SLIPPED:
        hang = scene.arm.position[2] - scene.points()[:, 2].min()
        over[:2] = (scene.goal + now)[:2]
    low = np.array([*over[:2], _release_height(scene, others) + hang])
    yield from hand.reach(low, CLOSE, _ARRIVED)
    yield from hand.stay(low, OPEN, _OPEN_STEPS)
    yield from hand.reach(low + np.array([0, 0, 0.1]), OPEN, _PASSED)
    yield from hand.stay(low + np.array([0, 0, 0.1]), OPEN, _REST_STEPS)


def _release_height(scene: Scene, others: np.ndarray) -> float:
    """Height [m] of the object's lowest point at its release: just above what supports it."""
    aside = np.linalg.norm((others - scene.goal)[:, :2], axis=1)
    support = others[aside < 0.03][:, 2].max(initial=scene.top)
    gaps = [gap for kind, gap in _WALLED_GAP.items() if kind in scene.target]
    return support + (gaps[0] if gaps else _GAP)


def _highest(others: np.ndarray, start: np.ndarray, end: np.ndarray, least: float) -> float:
    """Height [m] of the highest of the points float64[n, 3] near the way between two places."""
    way = (end - start)[:2]
    along = (others - start)[:, :2] @ way / max(float(way @ way), 1e-9)
    nearest = start[:2] + np.clip(along, 0, 1)[:, None] * way
    beside = np.linalg.norm(others[:, :2] - nearest, axis=1) < _CORRIDOR
    return float(others[beside][:, 2].max(initial=least))
