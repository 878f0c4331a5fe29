"""A whole run that diverges ends with the command to go on from before, and the command works."""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from skips import slow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from torture import resume
from torture.tiny_run import TRAIN

from pi0_jax.apps import supervise
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.rl import loop
from pi0_jax.training import checkpoint

LOWER = "--config.{}.optimizer.learning_rate=1e-4"


@pytest.fixture(autouse=True)
def together():
    """Runs in this process, which share their programs."""
    with resume.warm():
        yield


def spoilt(batch):
    """The batch with a target that no float32 can square."""
    return dataclasses.replace(batch, actions=np.full_like(batch.actions, 1e30))


def in_sft(monkeypatch, at):
    """Step `at` of every supervised training meets a spoilt batch."""
    inner = supervise._batches

    def batches(*args):
        of = inner(*args)
        return lambda step: spoilt(of(step)) if step == at else of(step)

    monkeypatch.setattr(supervise, "_batches", batches)


def in_rl(monkeypatch, at):
    """The update after `at` others of RL meets a spoilt batch."""
    inner, calls = loop.draw_batch, []

    def draw(*args):
        calls.append(None)
        return spoilt(inner(*args)) if len(calls) > at else inner(*args)

    monkeypatch.setattr(loop, "draw_batch", draw)


@pytest.mark.parametrize(
    ("phase", "spoil", "at"), [pytest.param("sft", in_sft, 3, marks=slow), ("rl", in_rl, 1)]
)
def test_it_goes_on_from_the_last_good_checkpoint(tmp_path, monkeypatch, phase, spoil, at):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        spoil(patch, at)
        said = resume.train(run, *TRAIN)
    assert "\n" not in said
    assert re.search(r"training diverged: .* (at|after) step \d+; go on from the last good", said)
    found = re.search(r"go on from .*/(\d+), at a lower rate: add (--resume --from (\d+)) ", said)
    assert found is not None and found[1] == found[3]
    kept = checkpoint.steps(run / "checkpoints")
    # SFT saves every second of 4 steps; RL began at the fourth, and its first update was good.
    assert kept[-1] == int(found[1]) == (2 if phase == "sft" else 5)
    assert not (run / "results.json").exists() or not json.loads(
        (run / "results.json").read_text()
    ).get("finished")
    # The same settings would diverge again, or not: other rates are what the line advises.
    assert resume.train(run, *TRAIN, *found[2].split(), LOWER.format(phase)) == ""
    losses = [line["loss"] for line in read_metrics(run / "metrics.jsonl") if "loss" in line]
    assert len(losses) > 5 and all(map(math.isfinite, losses))
    assert (run / "policy/config.json").exists() and (run / "report.html").exists()
    stored = json.loads((run / "config.json").read_text())["config"][phase]["optimizer"]
    assert stored["learning_rate"] == 1e-4
