"""Roll a policy out in a task of your own, with a robot of your own, in worker processes."""

import numpy as np

import pi0_jax as pj

ROBOT = pj.Robot("slider", ("top",), (pj.Dimension("x", "m"),), (pj.Dimension("dx", "m"),))


class Slide(pj.SteppedSimulator):
    def start(self, seed):
        self.x = np.random.default_rng(seed).uniform(-1, 0)
        return self.boundary()

    def step(self, action):
        self.x += float(action[0])
        return self.x > 0.5  # success

    def proprio(self):
        return np.array([self.x], np.float32)

    def images(self):
        return np.full((1, 16, 16, 3), 128 + 100 * np.clip(self.x, -1, 1), np.uint8)

    def save(self):
        return pj.SimState({"x": np.array(self.x)})

    def load(self, state):
        self.x = float(state.arrays["x"])


TASK = pj.SteppedTask("slide", "go right", ROBOT, max_steps=30, simulator=Slide)
policy = pj.Policy.from_folder(pj.testing.tiny_policy(ROBOT), rows=8)
with pj.SimulatorPool(workers=2, timeout_s=60) as pool:
    plans = pj.plan_states(pool, [(TASK, seed) for seed in range(8)])
    episodes = pj.collect(policy, pool, plans, execute_steps=4)
valid = [e for e in episodes if e.error is None]  # an error of the simulator is no failure
print(f"{sum(e.success for e in valid)} of {len(valid)} episodes succeeded")
