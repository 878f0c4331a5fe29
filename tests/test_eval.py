"""eval.py as a process: killed in the middle and resumed, it finds what an unbroken one finds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from skips import slow
from tiny import policy_folder

from pi0_jax.policy.folder import save_policy

ROOT = Path(__file__).parents[1]
EPISODES = 150
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    values = {"suite": "scripted"}
    values["pool"] = {"workers": 2, "timeout_s": 20.0}
    values["task"] = {"image_size": 16, "max_steps": 12, "tolerance": 0.5}
    values["eval"] = {"episodes": %d, "first_seed": 0, "num_flow_steps": 1, "videos": 1}
    values["eval"] |= {"guidance": (1.0,), "execute_steps": 2}
    return ConfigDict(values)
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory, params):
    """Starts eval.py on a policy of the scripted task, in a folder."""
    path = tmp_path_factory.mktemp("eval")
    (path / "config.py").write_text(CONFIG % EPISODES)
    save_policy(path / "policy", policy_folder(params), {})

    def begin(out: Path, *arguments: str) -> subprocess.Popen:
        command = ["eval.py", f"--config={path / 'config.py'}", f"--checkpoint={path / 'policy'}"]
        return subprocess.Popen(
            [sys.executable, *command, f"--workdir={out}", *arguments], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    return begin


def finish(process: subprocess.Popen, code: int = 0) -> str:
    _, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors
    return errors


def results(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("results.json", "episodes/eval/policy_1.jsonl")]


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    """The run folder of an evaluation that nobody disturbed, and what it said."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return out, finish(start(out))


def test_what_an_evaluation_says(unbroken):
    out, said = unbroken
    assert f"policy: evaluation at guidance 1  {EPISODES}/{EPISODES}  100%" in said
    assert f"policy: evaluation at guidance 1: {EPISODES} episodes in 0:" in said
    assert "env steps/s" in said
    assert "2 simulators, " in said
    (row,) = json.loads((out / "results.json").read_text())["rows"]
    assert 0 < row["successes"] < row["episodes"] == EPISODES
    assert f"{row['successes']}/{EPISODES}" in said
    assert len(list((out / "videos").glob("*.mp4"))) == 2  # a success and a failure
    assert (out / "report.html").exists()


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=slow), signal.SIGKILL])
def test_stopped_in_the_middle_and_resumed(start, unbroken, tmp_path, how):
    out = tmp_path / "run"
    process = start(out)
    lines = out / "episodes/eval/policy_1.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if lines.exists() and lines.read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.001)
    process.send_signal(how)
    finish(process, 130 if how == signal.SIGINT else -signal.SIGKILL)
    parts = sorted((out / "episodes/eval/policy_1.parts").glob("*.npz"))
    before = {part.name: part.read_bytes() for part in parts}
    assert 5 <= len(before) < EPISODES
    assert lines.read_bytes().count(b"\n") >= len(before) - 1

    said = finish(start(out, "--resume"))
    assert results(out) == results(unbroken[0])
    assert not parts[0].exists()
    # Every episode was run once: what is left is what was not there.
    assert f"guidance 1: {EPISODES - len(before)} episodes in" in said


def test_a_finished_evaluation_is_not_run_again(start, unbroken):
    out = unbroken[0]
    before = results(out)
    assert "episodes in" not in finish(start(out, "--resume"))
    assert results(out) == before
