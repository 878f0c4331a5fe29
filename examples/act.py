"""Load a policy and act: python examples/act.py POLICY; without one, a tiny random policy acts."""

import sys

import numpy as np

import pi0_jax as pj

path = sys.argv[1:]
policy = pj.Policy.load(path[0]) if path else pj.Policy.from_folder(pj.testing.tiny_policy())
robot = policy.robot
seen = pj.RawObs(
    images=np.zeros((len(robot.cameras), 224, 224, 3), np.uint8),  # robot.cameras, in order
    state=np.zeros(len(robot.state), np.float32),  # robot.state names each number
    prompt="reach the dot",
)
actions = policy.act([seen], seed=0)  # float32[1, horizon, actions], in the robot's units
print(f"{actions.shape[1]} actions of {robot.name}; the first:", actions[0, 0].round(3))
