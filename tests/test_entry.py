"""Console scripts: a stop while the program is being loaded is one line."""

import inspect
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pi0_jax.apps import entry

ROOT = Path(__file__).parents[1]
# An import that never ends, in the place of jax and the rest.
SLOW = """
import sys, time, types
class Slow:
    def find_spec(self, name, *rest):
        if name == "pi0_jax.apps.train":
            print("loading", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
from pi0_jax.apps.entry import train
train()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_while_it_loads(number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "loading\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "error: interrupted before anything was done\n")


def test_every_script_has_its_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert len(scripts) == 5
    for name, target in scripts.items():
        function = target.removeprefix("pi0_jax.apps.entry:")
        assert callable(getattr(entry, function)), name
        source = inspect.getsource(getattr(entry, function))
        program = re.search(r'_run\("(\w+)"\)', source)
        assert program and (ROOT / f"pi0_jax/apps/{program[1]}.py").is_file()
