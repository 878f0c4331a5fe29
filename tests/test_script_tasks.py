"""A task that is defined in a script, or in a notebook, runs in worker processes."""

import subprocess
import sys

SCRIPT = """
import dataclasses, sys
import numpy as np
from pi0_jax import Dimension, Robot, SimState, SimulatorPool, SteppedSimulator
from pi0_jax.env.base import Job, run, start

SLIDER = Robot("slider", ("top",), (Dimension("x", "m"),), (Dimension("dx", "m"),))

@dataclasses.dataclass(frozen=True)
class Slide:
    name: str = "slide"
    instruction: str = "go to the right"
    max_steps: int = 20
    settle_steps: int = 0
    robot: Robot = SLIDER
    def build(self):
        return SlideSimulator(self)

class SlideSimulator(SteppedSimulator):
    def __init__(self, task):
        # Another one built would show another number.
        self.task, self.x, self.mark = task, 0.0, np.random.default_rng().integers(256)
    def start(self, seed):
        self.x = float(np.random.default_rng(seed).uniform(-1, 0))
        return self.boundary()
    def step(self, action):
        self.x += float(action[0])
        return self.x > 1
    def proprio(self):
        return np.array([self.x], np.float32)
    def images(self):
        return np.full((1, 8, 8, 3), self.mark, np.uint8)
    def video_frame(self):
        return self.images()[0]
    def save(self):
        return SimState({"x": np.array(self.x)})
    def load(self, state):
        self.x = float(state.arrays["x"])
    def close(self):
        pass

if __name__ == "__main__":
    with SimulatorPool(1, timeout_s=60) as pool:
        first = pool.map([Job(Slide(), start, (seed,)) for seed in range(3)])
        ends = pool.map([Job(Slide(), run, (f.state, np.full((3, 1), 5.0))) for f in first])
    print([len(end.actions) for end in ends], [end.success for end in ends])
    print(len({int(f.obs.images.max()) for f in first}))
"""


def test_a_task_of_a_script_runs_in_workers_and_is_built_once(tmp_path):
    """Its class exists in no module that a worker could import; actions of 5 are not cut to 1."""
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout == "[1, 1, 1] [True, True, True]\n1\n"
