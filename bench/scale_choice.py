"""Guidance scales that are chosen on 50 states of each run, and judged on its others.

python bench/scale_choice.py RUN ... [--method ript]

RUN is a folder of train.py or eval.py that was evaluated at scale 1 and others. In each run the
scale that solves most of the 50 states is taken (the smallest of equals), and compared with scale 1
on the run's other states. Each block of 50 states chooses in turn: a line each.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from stored_runs import evaluations

from pi0_jax.run.paired import p_text, sign_test, won_lost
from pi0_jax.run.success import wilson

_BLOCK = 50

_State = tuple[str, int]
Outcomes = Mapping[_State, bool]
"""Success by task and seed of the initial state."""


def main() -> None:
    """Prints a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--method", default="ript")
    args = parser.parse_args()
    found = [scales(run, args.method) for run in args.runs]
    print("| chosen on | scales | states | at 1 | at the chosen | won : lost | p |")
    print("|---|---|---:|---:|---:|---|---:|")
    for at in range(0, min(len(one["1"]) for one in found), _BLOCK):
        print(line(found, at))


def scales(run: Path, method: str) -> dict[str, Outcomes]:
    """Outcomes by scale and reference, such as "1.5_base"; "1" is scale 1, and stands first."""
    named = {
        name.removeprefix(f"{method}_"): {(one.task, one.seed): one.success for one in episodes}
        for name, episodes in evaluations(run, f"{method}_*").items()
    }
    return {name: named[name] for name in sorted(named, key=lambda name: (name != "1", name))}


def line(runs: Sequence[Mapping[str, Outcomes]], at: int) -> str:
    """The line of the block of states that begins at position `at`."""
    here: dict[tuple[int, _State], bool] = {}
    there: dict[tuple[int, _State], bool] = {}
    taken = []
    for number, by_scale in enumerate(runs):
        states = sorted(by_scale["1"], key=lambda state: state[::-1])
        block = states[at : at + _BLOCK]
        scale = chosen(by_scale, block)
        taken.append(scale)
        rest = set(states) - set(block)
        here |= {(number, state): by_scale[scale][state] for state in rest}
        there |= {(number, state): by_scale["1"][state] for state in rest}
    won, lost = won_lost(here, there)
    cells = (
        f"{at} to {at + _BLOCK - 1}",
        ", ".join(taken),
        str(len(here)),
        *(rate(list(outcomes.values())) for outcomes in (there, here)),
        f"{won} : {lost}",
        p_text(sign_test(won, lost)),
    )
    return f"| {' | '.join(cells)} |"


def chosen(by_scale: Mapping[str, Outcomes], states: Sequence[_State]) -> str:
    """The scale that solves most of some states; the first of equals."""
    return max(by_scale, key=lambda scale: sum(by_scale[scale][state] for state in states))


def rate(outcomes: Sequence[bool]) -> str:
    """Success in per cent with its 95 % Wilson interval."""
    low, high = wilson(sum(outcomes), len(outcomes))
    return f"{100 * sum(outcomes) / len(outcomes):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
