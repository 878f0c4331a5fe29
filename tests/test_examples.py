"""The examples run as they stand, and are short."""

import subprocess
import sys
from pathlib import Path

import pytest
from stderr import own_lines

from pi0_jax import testing
from pi0_jax.policy.folder import save_policy

EXAMPLES = Path(__file__).parents[1] / "examples"
SAID = {
    "act": "4 actions of scripted; the first: [",
    "custom_loss": "step 1, loss 0.",
    "own_task": " of 8 episodes succeeded",
    "ript": "12 rollouts, loss 3.",
}


def test_every_example_is_tried():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs_and_says_what_it_did(name, tmp_path):
    save_policy(tmp_path / "policy", testing.tiny_policy(), {"made_by": "a test"})
    arguments = ["policy"] if name == "act" else []
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert (own_lines(done.stderr), done.returncode) == ("", 0)
    assert SAID[name] in done.stdout


@pytest.mark.parametrize("name", SAID)
def test_an_example_has_at_most_25_lines(name):
    """Blank lines and the docstring left out."""
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()[1:]
    assert len([line for line in lines if line.strip()]) <= 25
