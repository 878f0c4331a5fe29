"""Speed of rollouts: a simulator's own loop and ours, and numbers of our workers, in one run.

python bench/rollout.py [--suite lift|libero_spatial|...] [--task 0] [--steps 100] [--rounds 2]

The own loop renders every control step in one process, as openpi's LIBERO example does. Ours
renders at the end of each chunk. All execute the same random actions, and their final states are
compared bit for bit. CPU seconds are those of the worker processes. On a machine that others use
too, they are the better measure of what a control step costs.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from own_loops import OwnLoopTask, loaded_physics, own_episode, timed_run

from pi0_jax.env.base import ChunkResult, Job, Task, start
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import make_suite
from pi0_jax.env.workers.pool import SimulatorPool

CHUNKS = (5, 10, 50)
WORKERS = (1, 2, 4)
# Repetitions of the comparison of workers: starting them takes longer than their episodes.
REPEATS = 3
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Cost:
    """Cost of the episodes of one round.

    Attributes:
        episodes: number of episodes.
        steps: control steps, all episodes together.
        start_s: wall seconds of the episodes' starts.
        wall_s: wall seconds of their steps.
        cpu_s: CPU seconds of their steps, all workers together.
    """

    episodes: int
    steps: int
    start_s: float
    wall_s: float
    cpu_s: float

    @property
    def steps_per_s(self) -> float:
        """Control steps per second of wall time, all workers together."""
        return self.steps / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per control step."""
        return 1e3 * self.cpu_s / self.steps

    @property
    def episodes_per_min(self) -> float:
        """Episodes per minute of wall time, with their starts."""
        return 60 * self.episodes / (self.start_s + self.wall_s)


def random_actions(seed: int, steps: int) -> np.ndarray:
    """float32[steps, 7] in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)


def naive(
    pool: SimulatorPool, task: Task, seed: int, actions: np.ndarray
) -> tuple[Cost, np.ndarray]:
    """Runs one episode of the own loop; its cost, and the state of the physics at its end."""
    (ran,) = pool.map([Job(OwnLoopTask(task), own_episode, (seed, actions))])  # pyright: ignore[reportArgumentType]
    return Cost(1, len(actions), ran.start_s, ran.wall_s, ran.cpu_s), ran.physics


def ours(
    pool: SimulatorPool, task: Task, episodes: Sequence[tuple[int, np.ndarray]], chunk: int
) -> tuple[Cost, list[ChunkResult]]:
    """Runs episodes (seed, float32[t, 7] actions) as rollouts do; their cost and last results."""
    begin = time.perf_counter()
    at: list[ChunkResult] = pool.map([Job(task, start, (seed,)) for seed, _ in episodes])
    middle, cpu, done = time.perf_counter(), 0.0, [0] * len(episodes)

    def submit(index: int) -> int:
        """Submits the next chunk of an episode; returns its ticket."""
        actions = episodes[index][1][done[index] : done[index] + chunk]
        return pool.submit(Job(task, timed_run, (at[index].state, actions)))

    running = {submit(index): index for index in range(len(episodes))}
    while running:
        for over in pool.gather():
            if over.error is not None:
                raise RuntimeError(over.error)
            index = running.pop(over.ticket)
            at[index], seconds = over.result
            cpu += seconds
            done[index] += len(at[index].actions)
            if done[index] < len(episodes[index][1]) and not at[index].success:
                running[submit(index)] = index
    end = time.perf_counter()
    return Cost(len(episodes), sum(done), middle - begin, end - middle, cpu), at


def compare_loops(task: Task, steps: int, rounds: int, renderer: str) -> bool:
    """Prints the own loop and ours for each chunk length; returns whether all states agree."""
    costs: dict[str, list[Cost]] = {"own loop": [], **{f"chunks of {c}": [] for c in CHUNKS}}
    equal = True
    with (
        SimulatorPool(1, TIMEOUT_S, renderer=renderer) as theirs,
        SimulatorPool(1, TIMEOUT_S, renderer=renderer) as pool,
    ):
        # The first episodes build the environments, and compile what is compiled.
        naive(theirs, task, 0, random_actions(0, 2))
        ours(pool, task, [(0, random_actions(0, 2))], 1)
        # Variants take turns, so that a busy machine slows all of them equally.
        for seed in range(rounds):
            actions = random_actions(seed, steps)
            cost, physics = naive(theirs, task, seed, actions)
            costs["own loop"].append(cost)
            for chunk in CHUNKS:
                cost, (end,) = ours(pool, task, [(seed, actions)], chunk)
                costs[f"chunks of {chunk}"].append(cost)
                (found,) = pool.map([Job(task, loaded_physics, (end.state,))])
                equal &= np.array_equal(found, physics)
    show("one process", costs)
    return equal


def compare_workers(task: Task, steps: int, rounds: int, renderer: str) -> None:
    """Prints the same episodes, in chunks of `CHUNKS[-1]`, for each number of workers."""
    costs: dict[str, list[Cost]] = {f"{count} workers": [] for count in WORKERS}
    episodes = [(seed, random_actions(seed, steps)) for seed in range(2 * max(WORKERS))]
    for _ in range(rounds):
        for name, count in zip(costs, WORKERS, strict=True):
            with SimulatorPool(count, TIMEOUT_S, renderer=renderer) as pool:
                ours(pool, task, [(seed, random_actions(seed, 1)) for seed in range(4 * count)], 1)
                costs[name] += [ours(pool, task, episodes, CHUNKS[-1])[0] for _ in range(REPEATS)]
    show(f"chunks of {CHUNKS[-1]}", costs)


def show(title: str, costs: dict[str, list[Cost]]) -> None:
    """Prints the fastest round of each variant, and its ratio to the first line."""
    best = {name: min(found, key=lambda c: c.wall_s / c.steps) for name, found in costs.items()}
    first = next(iter(best.values()))
    print(f"\n{title}: env steps/s, ratio, CPU ms per step, ratio, cores used, episodes/min")
    for name, cost in best.items():
        wall = f"{cost.steps_per_s:7.1f} | {cost.steps_per_s / first.steps_per_s:5.2f}"
        cpu = f"{cost.cpu_ms:7.2f} | {first.cpu_ms / cost.cpu_ms:5.2f}"
        cores = f"{cost.cpu_s / cost.wall_s:5.2f}"
        print(f"| {name:12s} | {wall} | {cpu} | {cores} | {cost.episodes_per_min:7.1f} |")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="lift")
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    options = {"image_size": 256} | ({"tasks": (args.task,)} if args.suite != "lift" else {})
    (task,) = make_suite(args.suite, options).tasks
    renderer, load = choose_renderer(), os.getloadavg()[0]
    print(f"{task}\n{args.steps} steps, {renderer} rendering, load {load:.1f} of {os.cpu_count()}")
    equal = compare_loops(task, args.steps, args.rounds, renderer)
    print(f"states at the end: {'equal to the own loop bit for bit' if equal else 'DIFFERENT'}")
    compare_workers(task, args.steps, args.rounds, renderer)


if __name__ == "__main__":
    main()
