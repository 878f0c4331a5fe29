"""Why a policy fails in LIBERO: its stored failures are executed again, and sorted by cause.

python bench/failures.py RUN [--episodes policy_1] [--of 100]

RUN is a folder of eval.py or train.py, whose evaluations hold every action. For tasks that pick one
thing up and place it: the first goal that was not fulfilled names the thing. Its causes, in this
order:

    time        it was still held when the episode ended
    placing     it was lifted, and is not where it belongs
    precision   the hand closed at it (within 3 cm of its surface), and it was never lifted
    perception  the hand closed, but never near it
    no attempt  the hand never closed
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stored_runs import evaluations, run_jobs

from pi0_jax.env.base import Job
from pi0_jax.env.robosuite.skills.scene import Scene
from pi0_jax.episode import Episode

CAUSES = ("time", "placing", "precision", "perception", "no attempt")
_NEAR = 0.03  # m from the thing's surface to the point between the finger pads
_LIFTED = 0.03  # m


@dataclass(frozen=True)
class Watched:
    """What happened to the thing in t control steps.

    Attributes:
        goal: the goal that was not fulfilled, in words.
        distance: float[t], m, from the point between the pads to the thing's surface.
        lift: float[t], m above where it was.
        closing: bool[t]: the action closes the gripper.
        moved: m, horizontally, from where it was to where it came to lie.
    """

    goal: str
    distance: np.ndarray
    lift: np.ndarray
    closing: np.ndarray
    moved: float

    @property
    def cause(self) -> str:
        """One of `CAUSES`."""
        if self.lift.max() > _LIFTED:
            return "time" if self.lift[-1] > _LIFTED and self.closing[-1] else "placing"
        if not self.closing.any():
            return "no attempt"
        return "precision" if self.distance[self.closing].min() < _NEAR else "perception"

    @property
    def attempts(self) -> int:
        """How often the gripper began to close."""
        return int(np.sum(self.closing & ~np.concatenate([[False], self.closing[:-1]])))


def main() -> None:
    """Prints a table per evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", default="*", help="name below RUN/episodes/eval; all of them")
    parser.add_argument("--of", type=int, default=10**6, help="failures per evaluation at most")
    args = parser.parse_args()
    for name, episodes in evaluations(args.run, args.episodes).items():
        failed = [one for one in episodes if not one.success][: args.of]
        print(f"\n{name}: {len(failed)} failures looked at, of {len(episodes)} episodes")
        print(table(watched(args.run, failed)))


def watched(run: Path, episodes: list[Episode]) -> list[Watched]:
    """Executes episodes again; without those in which a simulator failed."""
    done = run_jobs(
        run,
        lambda suite, tasks: [
            Job(tasks[one.task], watch, (one.seed, one.actions)) for one in episodes
        ],
    )
    return [Watched(*one) for one in done if one is not None]


def watch(simulator: Any, seed: int, actions: np.ndarray) -> tuple[Any, ...]:
    """Job function: float32[t, 7] actions are executed; returns the fields of `Watched`."""
    first = simulator.start(seed).state
    scene = Scene(simulator._env, simulator._arm)
    simulator.load(first)
    for action in actions:
        simulator.step(action)
    goal = next((one for one in scene.goals if not scene.holds(one)), scene.goals[0])
    simulator.load(first)
    name, start, distance, lift = goal[1], scene.origin(goal[1]), [], []
    for action in actions:
        away = scene.points(name) - simulator._arm.position
        distance.append(np.linalg.norm(away, axis=1).min())
        lift.append(scene.origin(name)[2] - start[2])
        simulator.step(action)
    moved = np.linalg.norm((scene.origin(name) - start)[:2])
    closing = actions[:, -1] > 0
    # A worker cannot give back a class of this script.
    return " ".join(goal), np.array(distance), np.array(lift), closing, float(moved)


def table(failures: Iterable[Watched]) -> str:
    """A markdown table: how many of each cause, and what they have in common."""
    found = list(failures)
    counts = Counter(one.cause for one in found)
    lines = [
        "| cause | failures | tried again | moved [cm], median | nearest closing [cm], median |",
        "|---|---:|---:|---:|---:|",
    ]
    for cause in CAUSES:
        some = [one for one in found if one.cause == cause]
        if some:
            again = sum(one.attempts > 1 for one in some)
            nearest = [one.distance[one.closing].min() for one in some if one.closing.any()]
            near = f"{100 * np.median(nearest):.1f}" if nearest else "-"
            moved = 100 * np.median([one.moved for one in some])
            lines.append(f"| {cause} | {counts[cause]} | {again} | {moved:.1f} | {near} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
