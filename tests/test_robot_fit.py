"""A policy acts for robots whose numbers mean what it was trained with."""

import pytest

from pi0_jax.errors import InputError
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.robot import Robot, numbered
from pi0_jax.robots import load_robot


def robot(actions: int = 3, cameras: tuple[str, ...] = ("front",), **rest: object) -> Robot:
    return Robot("test", cameras, numbered("state", 4), numbered("action", actions), **rest)


def test_a_task_with_another_robot_is_refused() -> None:
    check_robot(robot(), robot(gripper="none", control_hz=5.0))
    # A camera that the network knows and the robot lacks asks for nothing.
    check_robot(robot(masked_cameras=("right",)), robot())
    with pytest.raises(InputError, match=r"expects the cameras \['front'\]"):
        check_robot(robot(), robot(cameras=("front", "wrist")))
    with pytest.raises(InputError, match="has actions of 3 dimensions, the task's 'test' of 7"):
        check_robot(robot(), robot(7))
    with pytest.raises(InputError, match="gripper is 'high_opens' for the policy and"):
        check_robot(robot(gripper="high_opens"), robot(gripper="high_closes"))
    message = (
        "state of .* 'libero_panda' have 'axis_angle_x' where .* 'lift_panda' have 'from_down_x'"
    )
    with pytest.raises(InputError, match=message):
        check_robot(load_robot("libero_panda"), load_robot("lift_panda"))
    check_robot(load_robot("so100"), load_robot("so101"))
