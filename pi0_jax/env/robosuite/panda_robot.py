"""LIBERO's robot: one Panda under OSC_POSE, as robosuite 1.4 drives it. Cheap to import."""

from pi0_jax.robot import Robot, named

# robosuite `controllers/config/osc_pose.json`: 1 moves 5 cm and turns 0.5 rad per control step.
_MOVES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")

PANDA = Robot(
    name="libero_panda",
    cameras=("agentview", "robot0_eye_in_hand"),
    state=(
        *named(("x", "y", "z"), "m"),
        *named(("axis_angle_x", "axis_angle_y", "axis_angle_z"), "rad"),
        *named(("left_finger", "right_finger"), "m"),
    ),
    actions=named(_MOVES, "", limit=1.0),
    gripper="high_closes",
    control_hz=20.0,
)
"""End effector and fingers as state; relative motions and the gripper as actions, -1 opens it."""
