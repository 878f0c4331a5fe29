"""train.py and eval.py as a user runs them, at the smallest size."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import lerobot_folders
import numpy as np
import pytest
from lerobot_folders import Data
from skips import slow

from pi0_jax.apps import cli
from pi0_jax.apps import evaluate as evaluate_app
from pi0_jax.apps import train as train_app
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import load_policy

ROOT = Path(__file__).parents[1]
SMALL = (
    "--config=configs/demo.py",
    "--config.pool.workers=2",
    "--config.execute_steps=8",
    "--config.demonstrations.episodes=4",
    "--config.sft.steps=4",
    "--config.sft.batch_size=8",
    # No pass back through the prefix: it is half of the time that an update takes to compile.
    "--config.sft.optimizer.preset=expert_only",
    "--config.rl.optimizer.preset=expert_only",
    # The schedule of sft: the base and continued_sft are one program.
    "--config.rl.optimizer.learning_rate=2e-3",
    "--config.rl.optimizer.warmup_steps=50",
    "--config.rl.optimizer.final_fraction=0.05",
    "--config.rl.iterations=2",
    # Enough rollouts that a group with mixed outcomes, which alone teaches, is among them.
    "--config.rl.groups.group_size=4",
    "--config.rl.groups.groups_per_iteration=2",
    "--config.rl.groups.max_groups=8",
    "--config.rl.updates_per_iteration=2",
    "--config.rl.batch_size=8",
    "--config.eval.episodes=2",
    "--config.eval.num_flow_steps=2",
    "--config.eval.videos=1",
    "--config.eval.guidance=(1.0,2.0)",
    "--config.eval.reference=unconditional",
)
SCRIPTED = (
    *SMALL,
    "--config.suite=scripted",
    "--config.task={'max_steps':12,'image_size':64,'tolerance':0.6,'speed':0.2}",
)
LIFT = (
    *SMALL,
    "--config.task.max_steps=16",
    # As many updates as above in all, so that both runs share their programs.
    "--config.rl.iterations=1",
    "--config.rl.updates_per_iteration=4",
    "--config.rl.groups.group_size=2",
    "--config.rl.groups.max_groups=2",
)


def start(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, script, *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen, code: int = 0) -> str:
    _, errors = process.communicate(timeout=400)
    assert process.returncode == code, errors
    return errors


def check_run(path: Path, methods: list[tuple[str, float]]) -> list[dict]:
    """What every run leaves behind; returns its rows."""
    results = json.loads((path / "results.json").read_text())
    assert [(row["method"], row["guidance"]) for row in results["rows"]] == methods
    for row in results["rows"]:
        assert row["episodes"] == 2
        assert row["rate"] == row["successes"] / 2
        assert 0 <= row["wilson_low"] <= row["rate"] <= row["wilson_high"] <= 1
    assert results["protocol"]["versions"]["mujoco"]
    assert results["protocol"]["evaluation"]["episodes"] == 2
    for method, guidance in methods:
        lines = (path / f"episodes/eval/{method}_{guidance:g}.jsonl").read_text().splitlines()
        assert len(lines) == 2
    videos = json.loads((path / "videos" / "index.json").read_text())
    assert videos
    page = (path / "report.html").read_text()
    for video in videos:
        assert (path / "videos" / video["file"]).stat().st_size > 500
        assert video["file"] in page
    return results["rows"]


def check_metrics(path: Path, sft_arms: tuple[str, ...], iterations: int) -> None:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [x["method"] for x in lines if x["phase"] == "sft"] == list(sft_arms)
    rl = [(x["method"], x["iteration"]) for x in lines if x["phase"] == "rl"]
    assert rl == [("ript", i + 1) for i in range(iterations)]


TRAINED = [("base", 1.0), ("continued_sft", 1.0), ("ript", 1.0), ("ript", 2.0)]


def evaluate(run: Path, out: Path, arguments: tuple[str, ...]) -> None:
    """eval.py loads what train.py exported, and finds the same as train.py did."""
    finish(start("eval.py", f"--checkpoint={run / 'policy'}", f"--workdir={out}",
                 *arguments))  # fmt: skip
    rows = check_run(out, [("policy", 1.0), ("policy", 2.0)])
    trained = json.loads((run / "results.json").read_text())["rows"][-2:]
    assert [row["successes"] for row in rows] == [row["successes"] for row in trained]


def test_a_scripted_run_interrupted_resumed_and_evaluated(tmp_path):
    run = tmp_path / "run"
    command = ("train.py", f"--workdir={run}", *SCRIPTED)
    process = start(*command)
    first = run / "episodes" / "ript" / "001.npz"
    deadline = time.monotonic() + 300
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # as SLURM and Kubernetes do
    said = finish(process, code=130)
    line = shlex.join([sys.executable, *command, "--resume"])
    assert said.endswith(f"error: interrupted; to continue: {line}\n")
    assert "Traceback" not in said, said

    before = (run / "results.json").read_bytes()
    refused = finish(start(*command), code=2)
    # XLA may say before it that a compiled program is of another processor (jax 0.10.0 does).
    assert refused.count("error: ") == 1
    assert "Traceback" not in refused, refused
    assert "holds a run already; add --resume to continue it" in refused.splitlines()[-1]
    other = finish(start(*command, "--resume", "--config.seed=1"), code=2)
    assert "another config (seed: 0 -> 1)" in other
    assert (run / "results.json").read_bytes() == before

    finish(start(*command, "--resume"))
    check_run(run, TRAINED)
    videos = json.loads((run / "videos" / "index.json").read_text())
    acted = [(one["method"], one["guidance"]) for one in videos[:3]]
    assert acted == [("base", ""), ("ript", ""), ("ript", "guidance 2 from unconditional")]
    assert videos[0]["state"] == videos[1]["state"] == videos[2]["state"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["seconds_train"] > 0 for line in lines if line["phase"] in ("sft", "rl"))
    assert (run / "policy" / "config.json").exists()
    # The newest two, and the best: here that of the first iteration.
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"4", "6", "8"}
    evaluate(run, tmp_path / "eval", SCRIPTED)


def test_imitation_of_a_lerobot_folder_and_nothing_after_it(tmp_path):
    """As configs/libero.py:stage=sft sets it up: no scripted expert, no rollouts but evaluation."""
    data = Data(["reach the dot", "something else"], [12, 9], size=64)
    cameras = {"scene": "observation.images.fixed", "wrist": "observation.images.hand"}
    names = lerobot_folders.LEROBOT | cameras
    folder = lerobot_folders.write(tmp_path / "data", "v3.0", data, names)
    run = tmp_path / "run"
    found = finish(start(
        "train.py", f"--workdir={run}", *SCRIPTED, "--config.rl.iterations=0",
        "--config.demonstrations.episodes=0", f"--config.demonstrations.lerobot={folder}",
    ))  # fmt: skip
    assert f"demonstrations: {folder}: 1 of 2 episodes, 12 steps" in found
    check_run(run, [("base", 1.0)])
    check_metrics(run, ("base",), iterations=0)
    assert not (run / "episodes" / "demonstrations.npz").exists()
    policy = load_policy(run / "policy")
    np.testing.assert_allclose(policy.stats.state.mean, data.state[0].mean(0), rtol=1e-5)


@slow
def test_the_real_lift(tmp_path):
    """What `make demo` runs, in small."""
    run = tmp_path / "run"
    finish(start("train.py", f"--workdir={run}", *LIFT))
    check_run(run, TRAINED)
    check_metrics(run, ("base", "continued_sft"), iterations=1)
    evaluate(run, tmp_path / "eval", LIFT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval.py", *SCRIPTED), "--checkpoint is missing"),
        (("eval.py", *SCRIPTED, "--checkpoint={path}/no"), "expected a policy folder"),
        (("train.py", *SCRIPTED, "--config.suite=lfit"), "suite must be one of"),
        (("train.py", *SMALL, "--config.hardware.micro_batches=3"), "must be a multiple of"),
        (("train.py", *SMALL, "--config.eval.episodes=0"), "eval.episodes must be"),
        (("train.py", *SMALL, "--config.rl.groups.group_size=1"), "group_size must be a"),
    ],
)  # fmt: skip
def test_mistakes_cost_nothing(tmp_path, monkeypatch, arguments, message):
    """One sentence, and no run folder; tests/test_cli.py shows how a command prints it."""
    monkeypatch.chdir(ROOT)
    program, *rest = (
        part.format(path=tmp_path) if "{path}" in part else part for part in arguments
    )
    evaluates = program == "eval.py"
    with pytest.raises(InputError, match=message) as caught:
        given = cli.parse([program, *rest, f"--workdir={tmp_path / 'run'}"], checkpoint=evaluates)
        (evaluate_app if evaluates else train_app).main(given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
