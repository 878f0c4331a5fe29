"""Supervised training that is stopped saves what it has, and goes on as if nothing had been."""

import jax
import numpy as np
import pytest
from tiny import episode, policy_folder

from pi0_jax.apps import supervise
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import train_settings
from pi0_jax.data.demonstrations import Recorded
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.interruption import ask
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint

SUITE = Suite("scripted", (ScriptedTask(),), DemonstratorConfig())


class ByTable:
    """A judge that knows the error of every step."""

    def __init__(self, **errors):
        self.errors = {int(step[1:]): error for step, error in errors.items()}
        self.asked, self.began = [], []

    def begin(self, state, judged):
        self.began.append((int(state.step), judged))

    def judge(self, state):
        self.asked.append(int(state.step))

    def best(self, stored):
        return {min(there, key=self.errors.get)} if (there := {*stored} & {*self.asked}) else ()


def settings():
    """6 updates, saved every 4 and logged every 3."""
    config = load_config("demo")
    config.sft.update({"steps": 6, "save_every": 4, "log_every": 3})
    config.sft.update({"batch_size": 8, "time_samples": 2})
    expert = {"learning_rate": 1e-3, "warmup_steps": 1, "preset": "expert_only"}
    config.sft.optimizer.update(expert)
    return train_settings(config)


class StoppedInStep2(supervise.Ahead):
    """Ctrl-C comes while the batch of the second update is read."""

    def __call__(self, step):
        if step == 1:
            ask()
        return super().__call__(step)


def test_stopped_and_resumed(tmp_path, blind_params, monkeypatch):
    """Saves come every 4 steps; stopped in step 2, the state there is saved too."""
    policy, chosen, demos = policy_folder(blind_params), settings(), Recorded([episode(6, [0, 3])])

    def trained(path):
        run = RunFolder(path, {}, resume=(path / "config.json").exists(), verbosity=0)
        session = Session(run, SUITE, None, seed=0, rows=8)
        return supervise.supervise(session, "base", policy, demos, chosen.sft, chosen.hardware)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(supervise, "Ahead", StoppedInStep2)
        trained(tmp_path / "run")
    checkpoints = tmp_path / "run/checkpoints"
    assert checkpoint.steps(checkpoints) == [2]
    found, whole = trained(tmp_path / "run"), trained(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, found.params, whole.params)
    assert checkpoint.steps(checkpoints) == [4, 6]
    logged = [
        [(line["step"], line["loss"]) for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("run", "whole")
    ]
    assert logged[0] == logged[1]
    assert [step for step, _ in logged[0]] == [3, 4, 6]


def trained_with(judge, path, policy):
    """A training that a judge looks at; one checkpoint is kept besides the best."""
    run = RunFolder(path, {}, resume=(path / "config.json").exists(), verbosity=0)
    session, demos = Session(run, SUITE, None, seed=0, rows=8), Recorded([episode(6, [0, 3])])
    chosen = settings()
    return supervise.supervise(
        session, "base", policy, demos, chosen.sft, chosen.hardware, keep=1, judge=judge
    )


def test_what_an_interruption_leaves_is_not_judged(tmp_path, blind_params, monkeypatch):
    policy, judge = policy_folder(blind_params), ByTable(s2=0.1, s4=0.2, s6=0.3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(supervise, "Ahead", StoppedInStep2)
        trained_with(judge, tmp_path / "run", policy)
    assert judge.asked == []
    best = trained_with(judge, tmp_path / "run", policy)
    assert judge.asked == [4, 6]
    # The start, and step 2, at which no unbroken run judges.
    assert judge.began == [(0, True), (2, False)]
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [4, 6]
    newest = trained_with(ByTable(s4=0.2, s6=0.1), tmp_path / "other", policy)
    embedding = [x.params["action_out_proj"]["bias"] for x in (best, newest)]
    assert (embedding[0] != embedding[1]).any()


def test_a_best_policy_whose_checkpoint_is_gone_is_none(tmp_path, blind_params):
    """As after --from an earlier checkpoint: its line is there, its parameters are not."""
    policy, judge = policy_folder(blind_params), ByTable(s3=0.0, s4=0.2, s6=0.3)
    judge.asked = [3]
    trained_with(judge, tmp_path / "run", policy)
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [4, 6]
