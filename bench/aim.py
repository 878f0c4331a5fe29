"""Where the hand comes down in stored evaluations: does guidance carry the aim too far?

python bench/aim.py RUN [--compared-with ript_1]

RUN is a folder of train.py or eval.py (LIBERO: the first three numbers of the state are the hand's
place). Each evaluation is paired with one of them, on the states that this one solves; the place
is read when the hand first is 3 cm above the height where that one closes the gripper. A
mean far from 0 is an error of aim that all states share, and guidance extrapolates it: with the
base at d, scale s is expected at (1 - s) d. A deviation is an error of aim per state.
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from stored_runs import evaluations

from pi0_jax.episode import Episode
from pi0_jax.rollout.episode_log import Key, key

_ABOVE = 0.03  # m


def main() -> None:
    """Prints one line per evaluation and outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--compared-with", default="ript_1", help="name below RUN/episodes/eval")
    args = parser.parse_args()
    runs = evaluations(args.run)
    if args.compared_with not in runs:
        parser.error(f"{args.compared_with} is not one of {', '.join(runs)}")
    solved = [one for one in runs.pop(args.compared_with) if one.success]
    if len({one.task for one in solved}) != 1:
        parser.error(f"{args.compared_with} has to solve states of one task, the same in all")
    height = closing_height(solved) + _ABOVE
    aims = places(solved, height)
    print(f"to {args.compared_with} on the {len(aims)} states it solves, {height:.3f} m high\n")
    print("| evaluation | outcome | states | x [cm], mean and deviation | y [cm] |")
    print("|---|---|---:|---:|---:|")
    for name, episodes in runs.items():
        for outcome in (True, False):
            some = places([one for one in episodes if one.success == outcome], height)
            print(row(name, "solved" if outcome else "failed", shifts(some, aims)))


def closing_height(episodes: Iterable[Episode]) -> float:
    """Median height of the hand, m, at the first action that closes the gripper."""
    found = [first(one.actions[:, -1] > 0, one.state[:, 2]) for one in episodes]
    return float(np.median([one for one in found if one is not None]))


def places(episodes: Iterable[Episode], height: float) -> dict[Key, np.ndarray]:
    """float[2], m, horizontal place of the hand when it first is below a height, by state."""
    found = {key(one): first(one.state[:, 2] < height, one.state[:, :2]) for one in episodes}
    return {state: place for state, place in found.items() if place is not None}


def first(when: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """The value at the first True of bool[t] `when`; None if there is none."""
    return values[int(when.argmax())] if when.any() else None


def shifts(some: Mapping[Key, np.ndarray], aims: Mapping[Key, np.ndarray]) -> np.ndarray:
    """float[n, 2], cm, from the place that is compared with, over the states of both."""
    both = [100 * (place - aims[state]) for state, place in some.items() if state in aims]
    return np.array(both).reshape(-1, 2)


def row(name: str, outcome: str, shift: np.ndarray) -> str:
    """One line of the table."""
    if not len(shift):
        return f"| {name} | {outcome} | 0 | - | - |"
    mean, deviation = shift.mean(0), shift.std(0)
    cells = [f"{mean[i]:+.2f} ({deviation[i]:.2f})" for i in range(2)]
    return f"| {name} | {outcome} | {len(shift)} | {cells[0]} | {cells[1]} |"


if __name__ == "__main__":
    main()
