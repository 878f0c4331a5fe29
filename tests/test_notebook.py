"""The notebook opens with its outputs, is short, and runs: no jupyter is needed for that."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stderr import own_lines

PATH = Path(__file__).parents[1] / "examples" / "first_steps.ipynb"
CELLS = json.loads(PATH.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SMALL = {
    "SUPERVISED_UPDATES": 4,
    "RIPT_ITERATIONS": 1,
    "UPDATES_PER_ITERATION": 2,
    "GROUPS_PER_ITERATION": 8,
    "TEST_STATES": 4,
}
# No pass back through the prefix: it is half of the time that an update takes to compile.
FULL, EXPERT = "rules=((", 'preset="expert_only", rules=(('
RUN_CELLS = """
import contextlib, io, json, sys
printed, names = [], {"__name__": "__main__"}
for source in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(source, names)
    printed.append(out.getvalue())
print(json.dumps([printed, len(names["plt"].get_fignums())]))
"""


def tags(cell) -> list[str]:
    return cell["metadata"].get("tags", [])


def source(cell) -> str:
    return "".join(cell["source"])


def printed(cell) -> str:
    """What a cell printed when the notebook was stored."""
    return "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")


def numberless(text: str) -> set[str]:
    """Its lines with every number as #, each once."""
    return set(re.sub(r"[\d.]+", "#", text).splitlines())


@pytest.fixture(scope="module")
def run():
    """(text printed by each code cell, number of figures), with the small parameters."""
    sources = [
        "\n".join(f"{name} = {value}" for name, value in SMALL.items())
        if "parameters" in tags(cell)
        else source(cell).replace(FULL, EXPERT)
        for cell in CODE
    ]
    assert sum(text.count(EXPERT) for text in sources) == 2
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS],
        input=json.dumps(sources),
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert (own_lines(done.stderr), done.returncode) == ("", 0)
    return json.loads(done.stdout)


def test_the_parameters_cell_holds_the_names_that_this_test_makes_small():
    (cell,) = [cell for cell in CODE if "parameters" in tags(cell)]
    values: dict[str, int] = {}
    exec(source(cell), {}, values)
    assert values.keys() == SMALL.keys()


@pytest.mark.parametrize("index", range(len(CODE)))
def test_a_cell_is_short_and_stored_without_error(index):
    cell = CODE[index]
    assert len(source(cell).splitlines()) <= 25
    assert cell["execution_count"] == index + 1
    assert bool(printed(cell)) == ("print(" in source(cell) or "note" in source(cell))
    for output in cell["outputs"]:
        assert output["output_type"] in ("stream", "display_data")
        assert output.get("name") != "stderr"


def test_two_pictures_are_stored_and_the_file_is_small():
    kinds = [list(o["data"]) for cell in CODE for o in cell["outputs"] if "data" in o]
    assert kinds == [["image/png"], ["image/png"]]
    assert PATH.stat().st_size < 300_000


def test_text_between_the_cells_claims_only_counts_that_were_printed():
    claims = {
        claim
        for cell in CELLS
        if cell["cell_type"] == "markdown"
        for claim in re.findall(r"\d+ of \d+", source(cell))
    }
    assert claims
    stored = "".join(map(printed, CODE))
    assert claims <= set(re.findall(r"\d+ of \d+", stored))


def test_cells_without_training_print_what_is_stored(run):
    exact = [index for index, cell in enumerate(CODE) if "exact" in tags(cell)]
    assert len(exact) >= 4
    for index in exact:
        assert run[0][index] == printed(CODE[index])


def test_the_other_cells_print_the_same_lines_but_for_their_numbers(run):
    for cell, text in zip(CODE, run[0], strict=True):
        assert numberless(text) == numberless(printed(cell))
    assert run[1] == 2
