"""The loop in a run folder: what it leaves there, and an interruption changes nothing."""

import dataclasses
from typing import Any

import chex
import jax
import numpy as np
import pytest
from loops import DEMOS, EASY, HOPELESS, MIXED, OPTIMIZER
from skips import slow
from stored import FIRST_STEP, interrupt_second, lines, run, session
from tiny import RIPT, policy_folder, ript

from pi0_jax.errors import InputError
from pi0_jax.io.episodes import load_episodes
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl import loop, stored_loop
from pi0_jax.rl.loop import run_ript
from pi0_jax.rl.metrics import PHASES
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.collect import groups_of
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.rollout.policy_use import USE
from pi0_jax.run.folder import RunFolder
from pi0_jax.training import checkpoint
from pi0_jax.training.saver import Saver

pytestmark = pytest.mark.usefixtures("thrift")


@pytest.fixture(scope="module")
def base(blind_params) -> PolicyFolder:
    return policy_folder(blind_params)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, scripted_pool, base):
    """Path and result of a run without interruption."""
    path = tmp_path_factory.mktemp("unbroken") / "run"
    return path, run(session(path, scripted_pool), base)


def test_what_a_run_leaves(unbroken, base):
    path, improved = unbroken
    chex.assert_trees_all_equal_shapes(improved.params, base.params)
    frozen = lambda policy: policy.params["PaliGemma"]["img"]  # noqa: E731
    chex.assert_trees_all_equal(frozen(improved), frozen(base))
    assert (np.abs(improved.params["cond_embed"]).max(1) > 0).all()
    first, second = lines(path)
    assert (first["step"], second["step"]) == (22, 24)
    assert (first["iteration"], second["iteration"]) == (1, 2)
    assert (first["phase"], first["method"]) == ("rl", "ript")
    assert first["rollouts"] == 3 * first["groups_tried"]
    assert 0 < first["groups_accepted"] <= 2
    measured = {"loss", "loss_cond", "loss_uncond", "guidance_gap", "grad_norm"}
    assert measured | {"grad_norm/cond_embed", "grad_norm/model"} <= first.keys()
    assert checkpoint.steps(path / "checkpoints") == [22, 24]
    host = checkpoint.latest(path / "checkpoints")
    assert host["iteration"] == 2
    tried = first["groups_tried"] + second["groups_tried"]
    assert host["init_states"]["drawn"] == tried


def test_rollouts_are_those_of_the_newest_parameters(unbroken):
    path, _ = unbroken
    for iteration, step in ((1, 20), (2, 22)):
        episodes = load_episodes(path / "episodes" / "ript" / f"{iteration:03d}.npz")
        assert {episode.optimizer_step for episode in episodes} == {step}
        assert min(episode.seed for episode in episodes) >= RIPT.groups.first_seed


@pytest.mark.parametrize("where", ["rollouts", "before the checkpoint"])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(
    unbroken, tmp_path, scripted_pool, base, monkeypatch, where
):
    """Interrupted in the second iteration; in the second case it was logged, but not saved."""
    path = tmp_path / "run"
    working = session(path, scripted_pool)
    with monkeypatch.context() as patch:
        target, name = {
            "rollouts": (RunFolder, "progress"),
            "before the checkpoint": (Saver, "save"),
        }[where]
        interrupt_second(patch, target, name)
        with pytest.raises(InterruptedError):
            run(working, base)
    working.run.metrics.close()
    assert checkpoint.steps(path / "checkpoints") == [22]
    resumed = run(session(path, scripted_pool, resume=True), base)
    chex.assert_trees_all_equal(resumed.params, unbroken[1].params)
    # An iteration that was logged and then lost before its checkpoint is logged once.
    assert lines(path) == lines(unbroken[0])
    a, b = (p / "episodes" / "ript" / "002.npz" for p in (path, unbroken[0]))
    for x, y in zip(load_episodes(a), load_episodes(b), strict=True):
        np.testing.assert_array_equal(x.actions, y.actions)


@pytest.mark.parametrize("where", ["rollouts", "updates"])
def test_a_stop_keeps_the_rollouts_of_its_iteration(
    unbroken, tmp_path, scripted_pool, base, monkeypatch, where
):
    path, seen = tmp_path / "run", []
    working = session(path, scripted_pool)

    def stop(*_):
        raise KeyboardInterrupt

    def rolling_out(setup, state, on_episodes, ended):
        seen.append(len(ended))
        stops = len(seen) == 2 and where == "rollouts"
        report = (lambda found: stop() if len(found) == 5 else None) if stops else on_episodes
        return loop.roll_out(setup, state, report, ended)

    def learning(setup, state, rollouts):
        return stop() if state.iteration == 1 else loop.learn(setup, state, rollouts)

    monkeypatch.setattr(stored_loop, "roll_out", rolling_out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if where == "updates":
            patch.setattr(stored_loop, "learn", learning)
        run(working, base)
    working.run.metrics.close()
    # A run has a pool of its own: the next one here must not get what this one has left in it.
    while scripted_pool.gather():
        pass
    parts = list((path / "episodes/ript/002.parts").iterdir())
    resumed = run(session(path, scripted_pool, resume=True), base)
    # The rollouts of iteration 1, those of 2 until the stop, and those that were not run again.
    assert seen[:3] == [0, 0, len(parts)]
    whole = len(load_episodes(path / "episodes/ript/002.npz"))
    assert len(parts) == (5 if where == "rollouts" else whole)
    chex.assert_trees_all_equal(resumed.params, unbroken[1].params)
    assert lines(path) == lines(unbroken[0])
    assert not (path / "episodes/ript/002.parts").exists()


def test_a_finished_run_is_not_run_again(unbroken, scripted_pool, base):
    path, improved = unbroken
    before = (path / "metrics.jsonl").read_text()
    again = run(session(path, scripted_pool, resume=True), base)
    chex.assert_trees_all_equal(again.params, improved.params)
    assert (path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(("task", "rate"), [(HOPELESS, 0), (EASY, 100)])
def test_a_policy_that_always_ends_alike_stays_as_it_is(
    tmp_path, scripted_pool, base, capsys, task, rate
):
    path = tmp_path / "run"
    improved = run(session(path, scripted_pool, task=task), base)
    chex.assert_trees_all_equal(improved.params, jax.tree.map(np.asarray, base.params))
    said = [line for line in capsys.readouterr().err.splitlines() if "informative" in line]
    why = f"no group was informative (6 tried, {rate}% of the rollouts succeeded); no update"
    assert [line.split("] ")[1] for line in said] == [
        f"ript: iteration 1: {why}",
        f"ript: iteration 2: {why}",
    ]
    assert [line["groups_accepted"] for line in lines(path)] == [0, 0]
    assert [line["groups_tried"] for line in lines(path)] == [6, 6]
    assert [line["success/scripted"] for line in lines(path)] == [rate / 100] * 2
    assert checkpoint.latest(path / "checkpoints")["iteration"] == 2


def test_where_every_state_is_solved_a_step_ends(tmp_path, scripted_pool, base, capsys):
    path = tmp_path / "run"
    run(session(path, scripted_pool, task=EASY), base, ript(groups={"num_states": 2}))
    first, second = lines(path)
    assert (first["groups_tried"], first["groups_skipped"]) == (2, 2)
    assert (second["groups_tried"], second["groups_skipped"]) == (0, 2)
    assert second["rollouts"] == 0
    assert "ript: iteration 2: no group was informative (all 2 groups" in capsys.readouterr().err


OPTIONS = {
    "finite states": {"groups": {"num_states": 3, "max_groups": 9, "group_size": 2}},
    "mixed states": {
        "groups": {"mix_states": True},
        "advantage": {"all_rollouts_baseline": True},
    },
    "one iteration": {"buffer_iterations": 1, "windows": {"stride": 2}},
    "acting parameters": {
        "objective": "nft",
        "advantage": {"success_weight": True},
        "buffer_iterations": 1,
        "demo_fraction": 0.0,
        "log_every": 1,
    },
}


def check_resumed(tmp_path, scripted_pool, base, monkeypatch, config, optimizer=OPTIMIZER):
    """Stops a run in its second iteration and resumes it: in run/, with the bits of whole/."""
    options: Any = {"config": config, "optimizer": optimizer}
    whole = run(session(tmp_path / "whole", scripted_pool), base, **options)
    working = session(tmp_path / "run", scripted_pool)
    with monkeypatch.context() as patch:
        interrupt_second(patch, RunFolder, "progress")
        with pytest.raises(InterruptedError):
            run(working, base, **options)
    working.run.metrics.close()
    resumed = run(session(tmp_path / "run", scripted_pool, resume=True), base, **options)
    chex.assert_trees_all_equal(resumed.params, whole.params)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(values, id=name, marks=() if name == "finite states" else slow)
        for name, values in OPTIONS.items()
    ],
)
def test_every_option_survives_an_interruption(tmp_path, scripted_pool, base, monkeypatch, options):
    """Initial states, groups and buffer are what they were: three iterations, two resumed."""
    config = ript(iterations=3, **options)
    check_resumed(tmp_path, scripted_pool, base, monkeypatch, config)
    a, b = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("run", "whole"))
    assert a and b
    assert a | {"run": ""} == b | {"run": ""}  # all that a checkpoint remembers but its run's name
    assert sum(line["groups_accepted"] for line in lines(tmp_path / "whole")) > 0


def test_images_that_nobody_will_train_on_are_not_stored(tmp_path, scripted_pool, base):
    for memory in (0, 1):
        path = tmp_path / str(memory)
        run(session(path, scripted_pool), base, ript(iterations=1, buffer_iterations=memory))
        episodes = load_episodes(path / "episodes" / "ript" / "001.npz")
        assert all(len(episode) for episode in episodes)
        # Of a group that was rejected none either.
        groups = groups_of(episodes, 3)
        kept = {e.seed: not group.uniform for group in groups for e in group.episodes}
        assert len(set(kept.values())) == 2
        for one in episodes:
            stored = kept[one.seed] and not memory
            assert len(one.images) == (sum(one.chunk_start) if stored else 0)


@slow
def test_branches_by_prompt_learn(tmp_path, scripted_pool, base):
    """Rollouts, windows, demonstrations and a guided policy, with a prompt per branch."""
    branch_mode = "text_indicator"  # by "prompt_dropout" it is another text for the same loop
    model = dataclasses.replace(base.spec.model, prompt_length=48)
    spec = dataclasses.replace(base.spec, model=model, branch_mode=branch_mode)
    config = ript(iterations=1, demo_weight=0.5, branch_mode=branch_mode, time_samples=1)
    told = dataclasses.replace(base, spec=spec)
    optimizer = dataclasses.replace(OPTIMIZER, b1=0.8)  # another program than the others'
    working = session(tmp_path / "run", scripted_pool)
    improved = run_stored_ript(working, "ript", told, DEMOS, config, optimizer, FIRST_STEP)
    assert improved.spec.branch_mode == branch_mode
    chex.assert_trees_all_equal(improved.params["cond_embed"], base.params["cond_embed"])
    moved = improved.params["action_out_proj"]["bias"] - base.params["action_out_proj"]["bias"]
    assert np.abs(moved).max() > 0
    (line,) = lines(tmp_path / "run")
    assert line["guidance_gap"] > 0


def test_the_loop_in_memory_gives_the_same_parameters_to_the_bit(unbroken, scripted_pool, base):
    reports = []
    improved = run_ript(
        base,
        [MIXED],
        scripted_pool,
        RIPT,
        OPTIMIZER,
        demonstrations=DEMOS,
        first_step=FIRST_STEP,
        on_iteration=lambda state, report: reports.append(report),
    )
    chex.assert_trees_all_equal(improved.params, unbroken[1].params)
    stored = lines(unbroken[0])
    assert [report.optimizer_step for report in reports] == [line["step"] for line in stored]
    for report, line in zip(reports, stored, strict=True):
        clocks = (*PHASES, *USE)
        measured = {name: value for name, value in report.metrics.items() if name not in clocks}
        assert measured == {name: line[name] for name in measured}


EVALUATION = EvalConfig(
    episodes=3, first_seed=100, guidance=(1.0,), num_flow_steps=10, videos=0, every=2
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, scripted_pool, base):
    """Path and result of three iterations, evaluated after the second."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    return path, run(session(path, scripted_pool), base, ript(iterations=3), EVALUATION)


def test_evaluation_during_rl_adds_lines_and_changes_nothing_else(
    evaluated, tmp_path, scripted_pool, base
):
    plain = run(session(tmp_path / "run", scripted_pool), base, ript(iterations=3))
    chex.assert_trees_all_equal(evaluated[1].params, plain.params)
    found = lines(evaluated[0])
    assert [line.get("eval_episodes") for line in found] == [None, None, 3, None]
    own = found.pop(2)
    assert found == lines(tmp_path / "run")
    rate = own.pop("eval_success")
    assert rate in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
    assert own == {
        "step": 24, "phase": "rl", "method": "ript", "iteration": 2,
        "eval_success/scripted": rate, "eval_episodes": 3, "eval_errors": 0,
    }  # fmt: skip


def test_evaluation_continues_at_the_right_iteration_after_an_interruption(
    evaluated, tmp_path, scripted_pool, base, monkeypatch
):
    """Interrupted after the evaluation of iteration 2, before its checkpoint."""
    path, config = tmp_path / "run", ript(iterations=3)
    working = session(path, scripted_pool)
    with monkeypatch.context() as patch:
        interrupt_second(patch, Saver, "save")
        with pytest.raises(InterruptedError):
            run(working, base, config, EVALUATION)
    working.run.metrics.close()
    resumed = run(session(path, scripted_pool, resume=True), base, config, EVALUATION)
    chex.assert_trees_all_equal(resumed.params, evaluated[1].params)
    assert lines(path) == lines(evaluated[0])


def test_what_stops_a_run_before_it_begins(tmp_path, scripted_pool, base):
    with pytest.raises(InputError, match="no moving average is kept"):
        run(session(tmp_path / "run", scripted_pool), base, ript(rollout_params="ema"))


def test_a_dangerous_setting_is_said_aloud(tmp_path, scripted_pool, base, capsys):
    settings = {"clipping": "symmetric", "negatives": "signed"}
    run(session(tmp_path / "run", scripted_pool), base, ript(iterations=1, advantage=settings))
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert "'signed': a loss with negative weights is unbounded below" in said[0]


@slow
def test_filtered_cloning_has_its_own_folder(tmp_path, scripted_pool, base):
    """As config.baselines sets it up: alpha 0, all groups, weight 1 for each success."""
    config = ript(
        iterations=1,
        demo_fraction=0.0,
        groups={"dynamic_sampling": False, "groups_per_iteration": 4, "max_groups": 4},
        advantage={"success_weight": True},
        objective="filtered_bc",
    )
    path = tmp_path / "run"
    run_stored_ript(session(path, scripted_pool), "filtered_bc", base, DEMOS, config, OPTIMIZER, 20)
    assert checkpoint.steps(path / "baselines" / "filtered_bc" / "checkpoints") == [22]
    assert not (path / "checkpoints").exists()
    (line,) = lines(path)
    assert (line["groups_accepted"], line["rollouts"]) == (4, 12)
    assert line["loss"] == line["loss_cond"]
    episodes = load_episodes(path / "episodes" / "filtered_bc" / "001.npz")
    windows = {kind: sum(sum(e.chunk_start) for e in episodes if e.success is kind)
               for kind in (True, False)}  # fmt: skip
    assert all(windows.values())  # otherwise the next line says nothing
    assert line["positive_share"] == windows[True] / (windows[True] + windows[False])
    assert line["positive_weight_mean"] == 1.0


PG = ript(
    objective="flow_pg",
    buffer_iterations=1,
    demo_fraction=0.0,
    advantage={"negatives": "signed", "clipping": "none"},
    flow_pg={"learn_noise": True},
)


def test_a_policy_gradient_resumes_bit_for_bit_and_leaves_its_chains(
    tmp_path, scripted_pool, base, monkeypatch
):
    rules = (("loss/noise", 100.0), *OPTIMIZER.rules)
    learning = dataclasses.replace(OPTIMIZER, rules=rules)
    check_resumed(tmp_path, scripted_pool, base, monkeypatch, PG, learning)
    a, b = (load_episodes(tmp_path / p / "episodes/ript/002.npz") for p in ("run", "whole"))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.chain, y.chain)
        np.testing.assert_array_equal(x.chain_log_prob, y.chain_log_prob)
        assert len(x.chain) == x.chunk_start.sum() > 0
