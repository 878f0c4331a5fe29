"""Several runs side by side: success of each method and guidance scale, per seed and pooled.

python scripts/summary.py runs/demo_full_0 runs/demo_full_1 runs/demo_full_2
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.run.success import Row, guidance_text, pool_tasks, row_from_dict, wilson

Key = tuple[str, str]
"""Method, and guidance scale as text; with its reference where that is not the other branch."""


def main(folders: Sequence[str]) -> None:
    """Prints a markdown table of the runs' results.json."""
    if not folders:
        raise InputError("name one or more run folders, such as runs/demo_full_0")
    runs = [read(Path(folder)) for folder in folders]
    names = [Path(folder).name for folder in folders]
    keys = dict.fromkeys(key for rows in runs for key in rows)
    sys.stdout.write(f"| method | guidance | {' | '.join(names)} | all |\n")
    sys.stdout.write("|---|---:|" + "---:|" * (len(runs) + 1) + "\n")
    for key in keys:
        present = [rows[key] for rows in runs if key in rows]
        cells = [cell([rows[key]]) if key in rows else "-" for rows in runs]
        sys.stdout.write(f"| {key[0]} | {key[1]} | {' | '.join(cells)} | {cell(present)} |\n")


def read(folder: Path) -> dict[Key, Row]:
    """Rows of a run by method and guidance scale, tasks added up.

    Raises:
        InputError: the folder has no results, or damaged ones.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a finished run folder")
    try:
        results = json.loads(path.read_text())
        rows = [row_from_dict(entry) for entry in results["rows"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is damaged: {error}") from error
    return {
        (row.method, guidance_text(row.guidance, row.reference) or "-"): row
        for row in pool_tasks(rows)
    }


def cell(rows: Sequence[Row]) -> str:
    """Rate and 95 % Wilson interval of the rows' episodes together, in per cent."""
    successes, episodes = sum(r.successes for r in rows), sum(r.episodes for r in rows)
    if not episodes:
        return "-"
    low, high = wilson(successes, episodes)
    return f"{successes / episodes:.0%} [{low:.0%}, {high:.0%}]".replace("%", "")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
