"""Guidance scales that are chosen on 50 states of each run, and judged on its others.

python bench/scale_choice.py RUN ... [--method ript]

RUN is a folder of train.py or eval.py that was evaluated at scale 1 and others. In each run the
scale that solves most of the 50 states is taken (of equals 1, then the smallest), and compared with
scale 1 on the run's other states. Each block of 50 states chooses in turn: a line each.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rates import rate_text
from stored_runs import evaluations

from pi0_jax.rollout.episode_log import Key, key
from pi0_jax.run.paired import p_text, sign_test, won_lost

_BLOCK = 50

Outcomes = Mapping[Key, bool]
"""Success by task and seed of the initial state."""


def main() -> None:
    """Prints a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--method", default="ript")
    args = parser.parse_args()
    found = [scales(run, args.method) for run in args.runs]
    if short := [str(run) for run, one in zip(args.runs, found, strict=True) if not usable(one)]:
        parser.error(f"{short[0]} has not scale 1, another scale and more than {_BLOCK} states")
    print("| chosen on | scales | states | at 1 | at the chosen | won : lost | p |")
    print("|---|---|---:|---:|---:|---|---:|")
    shortest = min(len(one["1"]) for one in found)
    for at in range(0, shortest - shortest % _BLOCK, _BLOCK):
        print(line(found, at))


def scales(run: Path, method: str) -> dict[str, Outcomes]:
    """Outcomes by scale and reference, such as "1.5_base"; "1" is scale 1, and stands first.

    Of states that every scale has: one in which a simulator failed is left out.
    """
    named = {
        name.removeprefix(f"{method}_"): {key(one): one.success for one in episodes}
        for name, episodes in evaluations(run, f"{method}_*").items()
    }
    common = set.intersection(*map(set, named.values())) if named else set()
    names = sorted(named, key=lambda name: (name != "1", float(name.partition("_")[0]), name))
    return {name: {state: named[name][state] for state in common} for name in names}


def usable(by_scale: Mapping[str, Outcomes]) -> bool:
    """Whether there is something to choose, and a state left to judge it on."""
    return "1" in by_scale and len(by_scale) > 1 and len(by_scale["1"]) > _BLOCK


def line(runs: Sequence[Mapping[str, Outcomes]], at: int) -> str:
    """The line of the block of states that begins at position `at`."""
    here: dict[tuple[int, Key], bool] = {}
    there: dict[tuple[int, Key], bool] = {}
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
        *(rate_text(sum(one.values()), len(one)) for one in (there, here)),
        f"{won} : {lost}",
        p_text(sign_test(won, lost)),
    )
    return f"| {' | '.join(cells)} |"


def chosen(by_scale: Mapping[str, Outcomes], states: Sequence[Key]) -> str:
    """The scale that solves most of some states; the first of equals."""
    return max(by_scale, key=lambda scale: sum(by_scale[scale][state] for state in states))


if __name__ == "__main__":
    main()
