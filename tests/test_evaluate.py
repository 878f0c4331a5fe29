"""Evaluation: paired states, honest counts, nothing measured twice."""

import json

import numpy as np
import pytest
from tiny import episode, policy_folder

from pi0_jax.env.expert import ExpertStyle
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.episode import load_episodes
from pi0_jax.errors import InputError
from pi0_jax.rl.evaluate import EvalConfig, measure, rows
from pi0_jax.run_folder import RunFolder
from pi0_jax.session import Session

TASKS = tuple(
    ScriptedTask(name=name, max_steps=6, image_size=16, tolerance=tolerance)
    for name, tolerance in (("easy", 9.0), ("hopeless", 0.0))
)
CONFIG = EvalConfig(episodes=3, first_seed=100, guidance=(1.0, 2.0), num_steps=1, videos=1)


def session(path, pool, resume=False) -> Session:
    return Session(RunFolder(path, {}, resume), Suite("two", TASKS, ExpertStyle()), pool, seed=0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, scripted_pool, params):
    path = tmp_path_factory.mktemp("evaluate") / "run"
    working = session(path, scripted_pool)
    measure(working, CONFIG, "eval", "policy", policy_folder(params), (1.0,))
    measure(working, CONFIG, "eval", "policy", policy_folder(params), CONFIG.guidance)
    return path


def test_rows_of_known_outcomes(measured):
    """The easy task is solved at its first step, the hopeless one never."""
    found = json.loads((measured / "results.json").read_text())["rows"]
    counts = [(r["task"], r["guidance"], r["successes"], r["episodes"]) for r in found]
    assert counts == [
        ("easy", 1.0, 3, 3), ("hopeless", 1.0, 0, 3),
        ("easy", 2.0, 3, 3), ("hopeless", 2.0, 0, 3),
    ]  # fmt: skip
    assert {(r["phase"], r["arm"]) for r in found} == {("eval", "policy")}


def test_scales_are_compared_on_the_same_states(measured):
    one, two = (load_episodes(measured / f"episodes/eval/policy_{s}.npz") for s in (1, 2))
    key = [(e.task, e.seed, e.init_hash) for e in one]
    assert key == [(e.task, e.seed, e.init_hash) for e in two]
    assert [e.seed for e in one] == [100, 101, 102] * 2
    hopeless = [(a, b) for a, b in zip(one, two, strict=True) if a.task == "hopeless"]
    assert any(not np.array_equal(a.actions, b.actions) for a, b in hopeless)


def test_a_line_an_episode(measured):
    path = measured / "episodes/eval/policy_1.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    assert lines[0]["steps"] == 1
    assert lines[5] == {
        "task": "hopeless", "seed": 102, "init_hash": lines[5]["init_hash"],
        "success": False, "steps": 6, "error": None,
    }  # fmt: skip
    assert len(lines[5]["init_hash"]) == 64


def test_what_is_measured_is_not_measured_again(measured, scripted_pool, params):
    path = measured / "episodes/eval/policy_1.npz"
    before = path.stat().st_mtime_ns
    working = session(measured, scripted_pool, resume=True)
    measure(working, CONFIG, "eval", "policy", policy_folder(params), CONFIG.guidance)
    assert path.stat().st_mtime_ns == before
    assert len(working.run.rows) == 4


def test_errors_are_not_counted():
    episodes = [
        episode(2, [0], task="a", success=True),
        episode(2, [0], task="a", error="the arm fell off"),
        episode(2, [0], task="b", error="the arm fell off"),
    ]
    first, second = rows(episodes, "rl", "ript", 1.5)
    assert (first.task, first.successes, first.episodes) == ("a", 1, 1)
    assert (second.task, second.successes, second.episodes) == ("b", 0, 0)
    assert (first.phase, first.arm, first.guidance) == ("rl", "ript", 1.5)


@pytest.mark.parametrize("name", ["episodes", "num_steps"])
def test_impossible_settings(name):
    values = {"episodes": 1, "first_seed": 0, "guidance": (1.0,), "num_steps": 1, "videos": 0}
    with pytest.raises(InputError, match=f"eval.{name} must be at least 1, got 0"):
        EvalConfig(**values | {name: 0})


def test_no_scale_is_no_evaluation():
    with pytest.raises(InputError, match=r"eval.guidance must be scales"):
        EvalConfig(episodes=1, first_seed=0, guidance=(), num_steps=1, videos=0)
