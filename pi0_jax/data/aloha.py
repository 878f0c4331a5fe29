"""ALOHA's joints and grippers, converted to and from the convention of pi's own runtime.

The base models of Physical Intelligence were trained in that convention. openpi converts around the
network (`adapt_to_pi` in `src/openpi/policies/aloha_policy.py`), and so did lerobot 0.1-0.3
(`adapt_to_pi_aloha`), with other limits of the gripper's angle.

Values: left arm 0-5, left gripper 6, right arm 7-12, right gripper 13. Joints are in rad.

Axis letters: d = 14.
"""

from dataclasses import dataclass

import numpy as np

WIDTH = 14
"""Values of the state, and of an action, of both arms."""

_FLIPPED = np.array([1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1])
_GRIPPERS = [6, 13]
# ALOHA's `constants.py`: limits of the follower's gripper as a distance [m] and as an angle [rad].
_CLOSED_M, _OPEN_M = 0.01844, 0.05800
_CLOSED_RAD, _OPEN_RAD = -0.6213, 1.4910
# Interbotix: the gripper's fingers hang on an arm [m] that a horn [m] turns.
_ARM, _HORN = 0.036, 0.022


@dataclass(frozen=True)
class Grippers:
    """Angles [rad] of pi's gripper, which pi calls 0 and 1.

    Attributes:
        low: angle of a state of 0.
        high: angle of a state of 1.
        action_scale: radians per unit of an action. openpi's actions are radians from `low` on,
            lerobot's go from 0 to 1 as its states do.
    """

    low: float
    high: float
    action_scale: float


CONVENTIONS = {
    "openpi": Grippers(0.5476, 1.6296, action_scale=1.0),
    "lerobot": Grippers(0.4, 1.5, action_scale=1.5 - 0.4),
}


def state_to_pi(state: np.ndarray, convention: str) -> np.ndarray:
    """ALOHA's state to pi's; not the inverse of `actions_from_pi`, whose grippers are angles.

    Args:
        state: float[..., d], grippers between 0 (closed) and 1 (open) of their way.
        convention: a key of `CONVENTIONS`.
    """
    limits = CONVENTIONS[convention]
    way = state[..., _GRIPPERS] * (_OPEN_M - _CLOSED_M) + _CLOSED_M  # m
    # The law of cosines in the triangle of arm, horn and way.
    ratio = (_HORN**2 + way**2 - _ARM**2) / (2 * _HORN * way)
    angle = np.arcsin(np.clip(ratio, -1.0, 1.0))
    found = _FLIPPED * state
    found[..., _GRIPPERS] = (angle - limits.low) / (limits.high - limits.low)
    return found


def actions_from_pi(actions: np.ndarray, convention: str) -> np.ndarray:
    """The actions of pi, float[..., d], to ALOHA's: grippers from 0 (closed) to 1 (open)."""
    limits = CONVENTIONS[convention]
    found = _FLIPPED * actions
    angle = found[..., _GRIPPERS] * limits.action_scale + limits.low
    found[..., _GRIPPERS] = (angle - _CLOSED_RAD) / (_OPEN_RAD - _CLOSED_RAD)
    return found


def actions_to_pi(actions: np.ndarray, convention: str) -> np.ndarray:
    """Inverse of `actions_from_pi`, for training."""
    limits = CONVENTIONS[convention]
    found = _FLIPPED * actions
    angle = found[..., _GRIPPERS] * (_OPEN_RAD - _CLOSED_RAD) + _CLOSED_RAD
    found[..., _GRIPPERS] = (angle - limits.low) / limits.action_scale
    return found
