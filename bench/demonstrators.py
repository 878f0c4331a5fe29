"""How often the scripted demonstrators solve LIBERO's tasks without their deliberate errors.

python bench/demonstrators.py [--suites libero_spatial libero_object libero_goal] [--episodes 20]

Initial states: the benchmark's own, from number 0 on. Assets: LIBERO_ASSETS, or LIBERO's own.
"""

import argparse

import numpy as np
from rates import rate_text

from pi0_jax.env.base import Job
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero import DEMONSTRATED, LiberoTask, libero_tasks
from pi0_jax.env.workers.cores import cores
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.episode import Episode

# No pictures are needed, and they would cost more than the rest.
STYLE = DemonstratorConfig(0.0, 0.0, 0.0, 0.0, speed=(1.0, 1.0), render_every=1000)
TIMEOUT_S = 120.0


def main() -> None:
    """Prints a markdown table, one line per task."""
    args = arguments()
    tasks = [
        task
        for suite in args.suites
        for task in libero_tasks(suite, DEMONSTRATED[suite], image_size=16, pictures="coarse")
    ]
    jobs = [
        Job(task, demonstrate, (seed, STYLE)) for task in tasks for seed in range(args.episodes)
    ]
    with SimulatorPool(cores(), TIMEOUT_S, renderer=choose_renderer()) as pool:
        done = [over.result for over in pool.run_all(jobs)]
    print("| task | instruction | solved | per cent | steps, median |\n|---|---|---:|---:|---:|")
    for at, task in enumerate(tasks):
        print(line(task, done[at * args.episodes : (at + 1) * args.episodes]))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", nargs="+", choices=DEMONSTRATED, default=list(DEMONSTRATED))
    parser.add_argument("--episodes", type=int, default=20)
    return parser.parse_args()


def line(task: LiberoTask, results: list[Episode | None]) -> str:
    """The line of one task; episodes in which the simulator failed (None) are not counted."""
    valid = [episode for episode in results if episode is not None]
    solved = sum(episode.success for episode in valid)
    steps = np.median([len(episode) for episode in valid])
    return (
        f"| {task.name} | {task.instruction} | {solved} / {len(valid)} | "
        f"{rate_text(solved, len(valid))} | {steps:.0f} |"
    )


if __name__ == "__main__":
    main()
