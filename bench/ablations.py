"""Where does CFG beat filtered behaviour cloning, and where not? One table and one plot.

python bench/ablations.py [--seeds 0 1 2] [--workdir runs/ablations] [--plot docs/ablations.png]
python bench/ablations.py --config configs/demo.py:objectives --workdir runs/objectives

Trains every method of the config for every seed (an interrupted run goes on) and adds up the
seeds. All methods of a seed start from its one base policy, and have the same numbers of rollouts
and optimizer steps.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rates import rate_text

from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.report.cost import costs
from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.run.paired import p_text, sign_test, won_lost
from pi0_jax.run.success import Row, guidance_text, pool_tasks, row_from_dict

REFERENCE = "filtered_bc"


@dataclass(frozen=True)
class Line:
    """One method at one guidance scale, over all seeds.

    Attributes:
        method: name of the method.
        guidance: guidance scale, and what it leads away from.
        rows: one row per seed.
        flips: how many initial states the same parameters solve at this scale and not at scale 1,
            and the other way round: the effect of guidance alone.
        to_reference: the same against filtered BC at scale 1.
        gap: mean guidance gap at the end of training; NaN where none is measured.
        rollouts: episodes tried per seed.
        minutes: minutes of rollouts and updates per seed.
    """

    method: str
    guidance: Guidance
    rows: tuple[Row, ...]
    flips: tuple[int, int]
    to_reference: tuple[int, int]
    gap: float
    rollouts: float
    minutes: float

    @property
    def pooled(self) -> Row:
        """All seeds together."""
        first = self.rows[0]
        successes = sum(row.successes for row in self.rows)
        episodes = sum(row.episodes for row in self.rows)
        return replace(first, successes=successes, episodes=episodes)


def main() -> None:
    """Trains what is missing, prints the table, draws the plot."""
    args = arguments()
    folders = [args.workdir / f"seed_{seed}" for seed in args.seeds]
    for seed, folder in zip(args.seeds, folders, strict=True):
        train(args.config, seed, folder)
    lines = collected(folders)
    print(table(lines))
    if args.plot:
        plot(lines, gap_curves(folders), args.plot)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", default="configs/demo.py:ablations")
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--plot", type=Path, help="a .png to draw")
    return parser.parse_args()


def train(config: str, seed: int, folder: Path) -> None:
    """Runs train.py to its end; continues a run that was interrupted, and leaves one that ended."""
    if (folder / "report.html").exists():
        return
    command = [sys.executable, "train.py", "--config", config]
    command += [f"--config.seed={seed}", "--workdir", str(folder)]
    if (folder / "config.json").exists():
        command.append("--resume")
    subprocess.run(command, check=True)


def collected(folders: Sequence[Path]) -> list[Line]:
    """Every method and guidance scale that all runs have."""
    runs = [results(folder) for folder in folders]
    spending = [spent(folder) for folder in folders]
    common = [key for key in runs[0] if all(key in run for run in runs)]
    return [
        Line(
            method,
            guidance,
            tuple(run[method, guidance] for run in runs),
            flips(folders, (method, guidance), (method, PLAIN)),
            flips(folders, (method, guidance), (REFERENCE, PLAIN)),
            *(
                mean([one.get(method, {}).get(name, math.nan) for one in spending])
                for name in COSTS
            ),
        )
        for method, guidance in common
    ]


Point = tuple[str, Guidance]
"""A method and how it is guided."""


def results(folder: Path) -> dict[Point, Row]:
    """Rows of a run by method and guidance."""
    entries = json.loads((folder / "results.json").read_text())["rows"]
    rows = pool_tasks([row_from_dict(entry) for entry in entries])
    # Without a guidance of its own, which 0 is, a row is of the policy as it is.
    scales = [1.0 if row.guidance is None else row.guidance for row in rows]
    return {
        (row.method, Guidance(scale, row.reference)): row
        for row, scale in zip(rows, scales, strict=True)
    }


def flips(folders: Sequence[Path], here: Point, there: Point) -> tuple[int, int]:
    """Numbers of initial states that `here` wins and loses against `there`, over all seeds."""
    counts = [won_lost(outcomes(folder, *here), outcomes(folder, *there)) for folder in folders]
    return sum(won for won, _ in counts), sum(lost for _, lost in counts)


def outcomes(folder: Path, method: str, guidance: Guidance) -> dict[tuple[str, int], bool]:
    """Success by task and seed of one evaluation; every point has the same states and noise.

    As in results.json, an episode that ended in an error of the simulator says nothing.
    """
    file = folder / "episodes" / "eval" / f"{method}_{guidance.suffix}.jsonl"
    episodes = [json.loads(line) for line in file.read_text().splitlines()]
    valid = [one for one in episodes if one.get("error") is None]
    return {(one["task"], one["seed"]): one["success"] for one in valid}


COSTS = ("gap", "rollouts", "minutes")
# Methods whose guidance gap is plotted, by the learning rate of the condition embedding.
GAPS = {"embedding_rate_1": "x 1", "ript": "x 20", "embedding_rate_30": "x 30"}


def gap_curves(folders: Sequence[Path]) -> dict[str, list[float]]:
    """Mean guidance gap over the seeds after every iteration, of the methods in `GAPS`."""
    runs = [read_metrics(folder / "metrics.jsonl") for folder in folders]
    curves = {}
    for method, label in GAPS.items():
        # One list of gaps per seed, a gap per iteration.
        of_seeds = [
            [
                line["guidance_gap"]
                for line in run
                if line["method"] == method and "guidance_gap" in line
            ]
            for run in runs
        ]
        curves[label] = [mean(values) for values in zip(*of_seeds, strict=False)]
    return curves


def spent(folder: Path) -> dict[str, dict[str, float]]:
    """The cost of each method of a run: method to `COSTS`."""
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["phase"] == "rl"]
    # Of several iterations the last one's.
    gaps = {x["method"]: x.get("guidance_gap") or math.nan for x in lines if "rollouts" in x}
    return {
        method: {
            "gap": gaps[method],
            "rollouts": cost.rollouts,
            "minutes": (cost.seconds_rollout + cost.seconds_train) / 60,
        }
        for method, cost in costs(lines).items()
    }


def mean(values: Sequence[float]) -> float:
    """Mean; NaN if one of the values is."""
    return sum(values) / len(values)


def table(lines: Sequence[Line]) -> str:
    """A markdown table, the best pooled rate first; differences to filtered BC in points."""
    reference = next((x.pooled.rate for x in lines if x.method == REFERENCE), math.nan)
    head = (
        "| method | w | success, all seeds | to filtered BC | won : lost to it | "
        "won : lost to w = 1 | each seed | gap | rollouts | minutes |"
    )
    rule = "|---|---|---:|---:|---:|---:|---|---:|---:|---:|"
    ordered = sorted(lines, key=lambda line: -line.pooled.rate)
    return "\n".join([head, rule, *(_cells(line, reference) for line in ordered)])


def _cells(line: Line, reference: float) -> str:
    row = line.pooled
    each = " ".join(f"{100 * one.rate:.0f}" for one in line.rows)
    guidance = guidance_text(line.guidance.scale, line.guidance.reference)
    numbers = [f"{x:{form}}" if math.isfinite(x) else "-" for x, form in
               ((line.gap, ".3f"), (line.rollouts, ".0f"), (line.minutes, ".1f"))]  # fmt: skip
    against = "-" if line.guidance == PLAIN else flips_text(*line.flips)
    itself = line.method == REFERENCE and line.guidance == PLAIN
    return (
        f"| {line.method} | {guidance} | "
        f"{rate_text(row.successes, row.episodes)} | "
        f"{100 * (row.rate - reference):+.1f} | "
        f"{'-' if itself else flips_text(*line.to_reference)} | {against} | {each} | "
        f"{' | '.join(numbers)} |"
    )


def flips_text(won: int, lost: int) -> str:
    """States won and lost with the p value of the sign test, such as "19 : 6 (p 0.015)"."""
    p = p_text(sign_test(won, lost))
    return f"{won} : {lost} (p {p})"


def plot(lines: Sequence[Line], gaps: dict[str, list[float]], path: Path) -> None:
    """Left: pooled rates with 95 % intervals and a dot per seed. Right: the guidance gap."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.26 * len(lines) + 1))
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    _plot_rates(left, lines)
    for label, values in gaps.items():
        right.plot(range(1, len(values) + 1), values, marker=".", label=label)
    right.set_xlabel("iteration")
    right.set_title("guidance gap by the embedding's learning rate", fontsize=10)
    right.legend(title="of the base rate")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=130, bbox_inches="tight")


def _plot_rates(axes: Any, lines: Sequence[Line]) -> None:
    ordered = sorted(lines, key=lambda line: line.pooled.rate)
    for at, line in enumerate(ordered):
        row = line.pooled
        colour = "C1" if line.method == REFERENCE else "C0"
        ends = [100 * row.wilson_low, 100 * row.wilson_high]
        axes.plot(ends, [at, at], color=colour, lw=5, alpha=0.4, solid_capstyle="round")
        axes.plot([100 * one.rate for one in line.rows], [at] * len(line.rows), "k.", ms=3)
        axes.plot([100 * row.rate], [at], "o", color=colour)
    axes.set_yticks(range(len(ordered)), [f"{x.method}, {x.guidance}" for x in ordered])
    axes.set_xlabel("success on unseen initial states, %; bar: 95 % Wilson; black: seeds")
    axes.grid(axis="x", alpha=0.3)


if __name__ == "__main__":
    main()
