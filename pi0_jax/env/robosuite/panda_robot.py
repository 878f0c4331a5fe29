"""The robot of LIBERO and of Lift: one Panda under OSC_POSE, as robosuite 1.4 drives it.

Cheap to import.
"""

import numpy as np

from pi0_jax.robots import load_robot

# Actions as in robosuite `controllers/config/osc_pose.json`: 1 moves 5 cm and turns 0.5 rad per
# control step.
PANDA = load_robot("libero_panda")
"""State: end effector and fingers. Actions: relative motions and the gripper, which -1 opens."""

LIFT_PANDA = load_robot("lift_panda")
"""The same, but its rotation is relative to a hand that points straight down."""

OPEN, CLOSE = -1.0, 1.0
"""Values of the gripper's action."""

_FULL_MOVE = 0.05  # m, the translation of OSC_POSE for an action of 1
_GAIN = 3.0  # fast, without overshoot


def move_action(way: np.ndarray, gripper: float, speed: float) -> np.ndarray:
    """float64[7]: one action along `way`, without rotation.

    Args:
        way: float64[3], m, from the hand to its goal.
        gripper: OPEN or CLOSE.
        speed: largest absolute value of each translation, at most 1.
    """
    move = np.clip(_GAIN * way / _FULL_MOVE, -speed, speed)
    return np.concatenate([move, np.zeros(3), [gripper]])
