"""Evaluation: paired states, honest counts, nothing lost and nothing run twice."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import episode, policy_folder

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedSimulator, ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError
from pi0_jax.io.episodes import load_episodes
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.reference_fit import with_reference
from pi0_jax.rollout import evaluate
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_policy, rows
from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session

TASKS = tuple(
    ScriptedTask(name=name, max_steps=6, image_size=16, tolerance=tolerance)
    for name, tolerance in (("easy", 9.0), ("hopeless", 0.0))
)
CONFIG = EvalConfig(episodes=3, first_seed=100, guidance=(1.0, 2.0), num_flow_steps=1, videos=1)


def session(path, pool, resume=False) -> Session:
    return Session(
        RunFolder(path, {}, resume), Suite("two", TASKS, DemonstratorConfig()), pool, seed=0, rows=8
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory, scripted_pool, params):
    path = tmp_path_factory.mktemp("evaluate") / "run"
    working = session(path, scripted_pool)
    evaluate_policy(working, CONFIG, "eval", "policy", policy_folder(params), (PLAIN,))
    evaluate_policy(working, CONFIG, "eval", "policy", policy_folder(params), CONFIG.sweep)
    return path


def test_rows_of_known_outcomes(measured):
    """The easy task is solved at its first step, the hopeless one never."""
    found = json.loads((measured / "results.json").read_text())["rows"]
    counts = [(r["task"], r["guidance"], r["successes"], r["episodes"]) for r in found]
    assert counts == [
        ("easy", 1.0, 3, 3), ("hopeless", 1.0, 0, 3),
        ("easy", 2.0, 3, 3), ("hopeless", 2.0, 0, 3),
    ]  # fmt: skip
    assert {(r["phase"], r["method"]) for r in found} == {("eval", "policy")}


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
    evaluate_policy(working, CONFIG, "eval", "policy", policy_folder(params), CONFIG.sweep)
    assert path.stat().st_mtime_ns == before
    assert len(working.run.rows) == 4


@pytest.mark.parametrize(
    ("sizes", "workers", "blocks"),
    [
        ((3, 3), 1, ["aaa", "bbb"]),
        ((3, 3), 3, ["aaa", "bbb"]),
        ((3, 3), 4, ["aaab", "bb"]),
        ((2, 2, 2, 2), 3, ["aabb", "ccdd"]),
        ((10, 1), 2, ["aaaa", "aaaa", "aa", "b"]),
        ((10, 1), 6, ["aaaaaa", "aaaa", "b"]),
        ((), 2, []),
    ],
)
def test_few_tasks_at_a_time(monkeypatch, sizes, workers, blocks):
    """At most four episodes at a time, or as many as there are workers."""
    monkeypatch.setattr(evaluate, "_AT_ONCE", 4)
    tasks = [ScriptedTask(name=name) for name in "abcd"]
    states = [
        (task, seed) for task, size in zip(tasks, sizes, strict=False) for seed in range(size)
    ]
    found = evaluate._blocks(states, workers)
    assert ["".join(task.name for task, _ in block) for block in found] == blocks
    assert [state for block in found for state in block] == states


def test_images_are_not_kept(measured):
    for one in load_episodes(measured / "episodes/eval/policy_1.npz"):
        assert one.images.size == len(one.image_steps) == 0
        assert one.chunk_start.any()


def test_speed_is_told(measured):
    lines = [json.loads(line) for line in (measured / "metrics.jsonl").read_text().splitlines()]
    assert [(x["phase"], x["method"], x["guidance"], x["episodes"]) for x in lines] == [
        ("eval", "policy", 1.0, 6), ("eval", "policy", 2.0, 6),
    ]  # fmt: skip
    for line in lines:
        assert line["episodes_per_min"] == pytest.approx(60 * 6 / line["seconds_eval"])
        # The easy task takes a step, the hopeless one six: 21 in all.
        assert line["env_steps_per_s"] == pytest.approx(21 / line["seconds_eval"])


def stop_after(monkeypatch, calls: int) -> None:
    """Ctrl-C in the middle of an evaluation: at a call of the policy."""
    act, left = Policy.act, iter(range(calls))

    def stopping(self, observations, noise):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return act(self, observations, noise)

    monkeypatch.setattr(Policy, "act", stopping)


def test_an_interrupted_evaluation_goes_on(measured, tmp_path, params, monkeypatch):
    """Two states at a time, stopped in the second pair."""
    monkeypatch.setattr(evaluate, "_AT_ONCE", 2)
    run = (tmp_path / "run", CONFIG, "eval", "policy", policy_folder(params), (PLAIN,))
    with monkeypatch.context() as patch, SimulatorPool(1, 20) as pool:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            evaluate_policy(session(run[0], pool), *run[1:])
    lines = run[0] / "episodes/eval/policy_1.jsonl"
    before = lines.read_text().splitlines()
    assert 2 <= len(before) < 6
    with lines.open("a") as file:
        file.write('{"task": "cut off by a cra')
    with SimulatorPool(1, 20) as pool:
        evaluate_policy(session(run[0], pool, resume=True), *run[1:])
    (told,) = [json.loads(x) for x in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert told["episodes"] == 6 - len(before)
    assert lines.read_bytes() == (measured / "episodes/eval/policy_1.jsonl").read_bytes()
    unbroken, resumed = (
        load_episodes(p / "episodes/eval/policy_1.npz") for p in (measured, run[0])
    )
    for a, b in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.state, b.state)
    assert not (run[0] / "episodes/eval/policy_1.parts").exists()


@dataclass(frozen=True)
class FragileTask(ScriptedTask):
    """Breaks as long as there is a file."""

    broken: str = ""

    def build(self) -> "FragileSimulator":
        return FragileSimulator(self)


class FragileSimulator(ScriptedSimulator):
    """What `FragileTask` builds; state 101 cannot start, no other can go on."""

    def start(self, seed):
        if seed == 101 and Path(self.task.broken).exists():
            raise RuntimeError("the method fell off")
        return super().start(seed)

    def run(self, *args):
        if Path(self.task.broken).exists():
            raise RuntimeError("the camera fell off")
        return super().run(*args)


def test_errors_are_run_again(tmp_path, params):
    broken = tmp_path / "broken"
    broken.touch()
    task = FragileTask(max_steps=6, image_size=16, tolerance=9.0, broken=str(broken))
    suite = Suite("fragile", (task,), DemonstratorConfig())
    lines = tmp_path / "run/episodes/eval/policy_1.jsonl"

    def counts_and_errors(resume: bool) -> tuple[tuple[int, int], list[str | None]]:
        with SimulatorPool(1, 20, retries=0) as pool:
            working = Session(RunFolder(tmp_path / "run", {}, resume), suite, pool, seed=0, rows=8)
            evaluate_policy(working, CONFIG, "eval", "policy", policy_folder(params), (PLAIN,))
        (row,) = working.run.rows
        errors = [json.loads(line)["error"] for line in lines.read_text().splitlines()]
        return (row.successes, row.episodes), errors

    counts, errors = counts_and_errors(resume=False)
    assert counts == (0, 0)
    assert ["method" in error for error in errors] == [False, True, False]
    broken.unlink()
    assert counts_and_errors(resume=True) == ((3, 3), [None] * 3)


def test_steps_of_a_chunk(params, tmp_path, scripted_pool):
    """The folder says 3 of 4; the protocol tells what was done."""
    spec = policy_folder(params).spec
    config = replace(CONFIG, execute_steps=2)
    assert (CONFIG.executed(spec), config.executed(spec)) == (3, 2)
    with pytest.raises(
        InputError, match=r"eval.execute_steps must be between 1 and the action horizon 4"
    ):
        replace(CONFIG, execute_steps=5).executed(spec)
    for name, setting, starts in (("own", CONFIG, [0, 3]), ("two", config, [0, 2, 4])):
        working = session(tmp_path / name, scripted_pool)
        evaluate_policy(working, setting, "eval", "policy", policy_folder(params), (PLAIN,))
        hopeless = load_episodes(tmp_path / name / "episodes/eval/policy_1.npz")[-1]
        assert np.flatnonzero(hopeless.chunk_start).tolist() == starts
        stored = json.loads((tmp_path / name / "results.json").read_text())["protocol"]
        assert stored["evaluation"]["execute_steps"] == starts[1]


def test_errors_are_not_counted():
    episodes = [
        episode(2, [0], task="a", success=True),
        episode(2, [0], task="a", error="the method fell off"),
        episode(2, [0], task="b", error="the method fell off"),
    ]
    first, second = rows(episodes, "rl", "ript", 1.5)
    assert (first.task, first.successes, first.episodes) == ("a", 1, 1)
    assert (second.task, second.successes, second.episodes) == ("b", 0, 0)
    assert (first.phase, first.method, first.guidance) == ("rl", "ript", 1.5)


@pytest.mark.parametrize("name", ["episodes", "num_flow_steps"])
def test_impossible_settings(name):
    values = {"episodes": 1, "first_seed": 0, "guidance": (1.0,), "num_flow_steps": 1, "videos": 0}
    with pytest.raises(InputError, match=rf"eval.{name} must be a whole number in .*, got 0"):
        EvalConfig(**values | {name: 0})


def test_a_reference_is_a_word_or_a_path():
    values = {"episodes": 1, "first_seed": 0, "guidance": (1.0, 2.0)}
    assert EvalConfig(**values).references == ("unconditional",)
    assert EvalConfig(**values, reference="runs/a+b/base").references == ("base",)
    assert EvalConfig(**values | {"guidance": (1.0,)}, reference="none").references == ("none",)
    # Guidance 1 alone leads away from nothing, whatever the reference.
    assert EvalConfig(**values | {"guidance": (1.0,)}, reference="base").references == ("none",)
    both = EvalConfig(**values, reference="unconditional+base")
    # Scale 1 has no reference, so it is measured once.
    assert both.sweep == (PLAIN, Guidance(2.0, "unconditional"), Guidance(2.0, "base"))
    with pytest.raises(InputError, match="'none' goes with no other reference"):
        EvalConfig(**values, reference="base+none")
    with pytest.raises(InputError, match=r"guidance is \(1.0, 2.0\), and eval.reference is 'none'"):
        EvalConfig(**values, reference="none")
    with pytest.raises(
        InputError, match=r"eval.reference must be 'unconditional', 'base', both with a plus"
    ):
        EvalConfig(**values, reference="")


def test_guidance_from_a_base_is_another_policy_and_is_said(
    measured, tmp_path, scripted_pool, params, capsys
):
    """At scale 1 the reference is not run: the same episodes, to the bit."""
    other = jax.tree.map(lambda x: np.asarray(x) * 1.5, params)
    config = replace(CONFIG, reference="unconditional+base")
    folder = policy_folder(params)
    guided = with_reference(folder, replace(folder, params=other))
    working = session(tmp_path / "run", scripted_pool)
    evaluate_policy(working, config, "eval", "policy", guided, config.sweep)
    assert "policy: guidance from a base" in capsys.readouterr().err

    def acted(run: Path, point: str) -> np.ndarray:
        return load_episodes(run / f"episodes/eval/policy_{point}.npz")[-1].actions

    # The references of one evaluation do not disturb each other.
    for point in ("1", "2"):
        np.testing.assert_array_equal(
            acted(measured, point), acted(working.run.path, point), strict=True
        )
    assert not np.array_equal(acted(working.run.path, "2"), acted(working.run.path, "2_base"))
    stored = json.loads((working.run.path / "results.json").read_text())
    assert [(row["guidance"], row["reference"]) for row in stored["all_tasks"]] == [
        (1.0, ""), (2.0, "unconditional"), (2.0, "base"),
    ]  # fmt: skip
    assert [one["reference"] for one in stored["paired"]] == ["unconditional", "base"]
    with pytest.raises(InputError, match="'base': the policy carries none"):
        session_of = session(tmp_path / "none", scripted_pool)
        evaluate_policy(session_of, config, "eval", "policy", folder, (Guidance(2.0, "base"),))


def test_scales_are_compared_state_by_state(measured):
    """Both scales solve the easy task always and the hopeless one never: nothing won or lost."""
    (one,) = json.loads((measured / "results.json").read_text())["paired"]
    assert one == {
        "phase": "eval", "method": "policy", "guidance": 2.0, "against": 1.0, "won": 0, "lost": 0,
        "reference": "unconditional", "against_reference": "", "p": 1.0,
    }  # fmt: skip


def test_no_scale_is_no_evaluation():
    with pytest.raises(InputError, match=r"eval\.guidance must have at least one scale"):
        EvalConfig(episodes=1, first_seed=0, guidance=(), num_flow_steps=1, videos=0)


def test_episodes_of_states_come_in_their_order_and_are_reported(scripted_pool, params):
    policy, ended = Policy.from_folder(policy_folder(params), num_flow_steps=1, rows=8), []
    states = CONFIG.states(TASKS)
    assert states == [(task, seed) for task in TASKS for seed in (100, 101, 102)]
    episodes = evaluate.evaluate_states(policy, scripted_pool, states, 3, ended.append)
    assert [(e.task, e.seed) for e in episodes] == [(task.name, seed) for task, seed in states]
    assert [e.success for e in episodes] == [True] * 3 + [False] * 3
    assert all(len(e.images) == 0 for e in episodes)
    # A block per task: each episode as it ends, then the whole block.
    assert [len(part) for part in ended] == [1, 2, 3, 3] * 2
