"""scripts/summary.py: several runs side by side, and what it says of folders that are none."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pi0_jax.run.success import Row

SCRIPT = Path(__file__).parents[1] / "scripts" / "summary.py"


def run(*folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *folders], capture_output=True, text=True)


def make(folder: Path, *rows: Row) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"rows": [row.as_dict() for row in rows]}))
    return folder


def test_seeds_stand_side_by_side_and_together(tmp_path: Path) -> None:
    a = make(tmp_path / "a", Row("sft", "base", "lift", 1.0, 50, 100))
    b = make(
        tmp_path / "b",
        Row("sft", "base", "lift", 1.0, 70, 100),
        Row("rl", "ript", "lift", 2.0, 0, 0),
    )
    lines = run(a, b).stdout.splitlines()
    assert lines[0] == "| method | guidance | a | b | all |"
    assert lines[2] == "| base | 1 | 50 [40, 60] | 70 [60, 78] | 60 [53, 67] |"
    # No valid episode says nothing.
    assert lines[3] == "| ript | 2 | - | - | - |"


def test_runs_with_different_references_are_not_pooled(tmp_path: Path) -> None:
    plain = Row("eval", "policy", "lift", 1.0, 50, 100)
    folders = [
        make(tmp_path / name, plain, replace(plain, guidance=1.5, reference=reference))
        for name, reference in (("a", "unconditional"), ("b", "unconditional"), ("c", "base"))
    ]
    half, all_three = "50 [40, 60]", "50 [44, 56]"
    assert run(*folders).stdout.splitlines()[2:] == [
        f"| policy | 1 | {half} | {half} | {half} | {all_three} |",
        f"| policy | 1.5 from unconditional | {half} | {half} | - | 50 [43, 57] |",
        f"| policy | 1.5 from base | - | - | {half} | {half} |",
    ]


def test_tasks_are_added_up(tmp_path: Path) -> None:
    rows = [Row("eval", "policy", task, 1.0, n, 50) for task, n in (("a", 10), ("b", 40))]
    assert run(make(tmp_path / "a", *rows)).stdout.splitlines()[2].endswith("| 50 [40, 60] |")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"rows": [1]}'])
def test_a_folder_without_results_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'results.json'}: ")
    assert done.stderr.count("\n") == 1
    assert run().stderr.count("\n") == 1
