"""The table of ablations: seeds added up, in points against filtered BC."""

import json
import math
import sys
from pathlib import Path

import pytest

from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.run.success import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import ablations

ROWS = {"ript": (70, 80), "filtered_bc": (60, 70), "base": (20, 30)}


ALONE = (("filtered_bc_1", "1001"), ("base_1", "00"), ("unfinished_1", "0"))


def write_outcomes(folder: Path, name: str, solved: str) -> None:
    """A line an episode, as an evaluation logs them."""
    lines = [{"task": "lift", "seed": i, "success": x == "1"} for i, x in enumerate(solved)]
    file = folder / "episodes" / "eval" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def runs(tmp_path):
    """Two finished runs of 100 episodes a method."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path / f"seed_{seed}"
        folder.mkdir()
        rows = [Row("rl", method, "lift", 1.0, n[seed], 100) for method, n in ROWS.items()]
        rows.append(Row("rl", "ript", "lift", 3.0, 3, 4, "base"))
        if seed == 0:
            rows.append(Row("rl", "unfinished", "lift", 1.0, 1, 100))
        (folder / "results.json").write_text(json.dumps({"rows": [r.as_dict() for r in rows]}))
        line = {"phase": "rl", "rollouts": 64, "seconds_rollout": 20.0, "seconds_train": 10.0}
        lines = [{**line, "step": i, "method": "ript", "guidance_gap": 0.1 * i} for i in (1, 2)]
        lines.append({**line, "step": 1, "method": "filtered_bc"})
        text = "".join(json.dumps(one) + "\n" for one in lines)
        (folder / "metrics.jsonl").write_text(text)
        # Guidance wins the states 1 and 3 and loses 0.
        for name, solved in (("ript_1", "1010"), ("ript_3_base", "0111"), *ALONE):
            write_outcomes(folder, name, solved)
        folders.append(folder)
    return folders


def test_seeds_are_added_up(runs):
    lines = {line.method: line for line in ablations.collected(runs) if line.guidance == PLAIN}
    assert lines.keys() == ROWS.keys()  # a method that not every seed has is left out
    assert (lines["ript"].pooled.successes, lines["ript"].pooled.episodes) == (150, 200)
    assert lines["ript"].rollouts == 128
    assert lines["ript"].minutes == pytest.approx(1.0)
    assert lines["ript"].gap == pytest.approx(0.2)
    assert math.isnan(lines["filtered_bc"].gap)


def test_guidance_is_compared_state_by_state(runs):
    (guided,) = [
        line for line in ablations.collected(runs) if line.guidance == Guidance(3.0, "base")
    ]
    assert guided.flips == (4, 2)  # two seeds
    # Filtered BC solves 0 and 3.
    assert guided.to_reference == (4, 2)
    assert "| ript | 3 from base |" in ablations.table([guided])
    assert "| 4 : 2 (p 0.688) | 4 : 2 (p 0.688) | 75 75 |" in ablations.table([guided])


def test_the_table_is_ordered_and_says_the_difference(runs):
    found = [line for line in ablations.collected(runs) if line.guidance == PLAIN]
    lines = ablations.table(found).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ript", "| filtered_bc", "| base"]
    assert (
        "75.0 [68.6, 80.5] | +10.0 | 2 : 2 (p 1.000) | - | 70 80 | 0.200 | 128 | 1.0 |" in lines[2]
    )
    assert "| -40.0 |" in lines[4]


def test_the_plot_is_a_picture(runs, tmp_path):
    lines, gaps = ablations.collected(runs), ablations.gap_curves(runs)
    assert gaps["x 20"] == pytest.approx([0.1, 0.2])
    assert gaps["x 1"] == []
    ablations.plot(lines, gaps, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
