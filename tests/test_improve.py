"""The whole loop at its smallest: it learns something, and an interruption changes nothing."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest
from tiny import RIPT, episode, policy_folder

from pi0_jax.env.expert import ExpertStyle
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.episode import load_episodes
from pi0_jax.policy_folder import PolicyFolder
from pi0_jax.rl import improve as improve_module
from pi0_jax.rl.improve import improve
from pi0_jax.run_folder import RunFolder
from pi0_jax.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.optimizer import OptimizerConfig

MIXED = ScriptedTask(max_steps=8, image_size=16, tolerance=0.6, speed=0.3)
HOPELESS = ScriptedTask(max_steps=4, image_size=16, tolerance=0.0)
OPTIMIZER = OptimizerConfig(1e-3, warmup_steps=1, rules=(("PaliGemma/img/.*", 0.0),))
DEMOS = [episode(8, [0, 4], seed=seed) for seed in range(3)]
FIRST_STEP = 20


@pytest.fixture(scope="module", autouse=True)
def thrift():
    """Compiles an update once a configuration."""
    compiled, prepare = {}, improve_module.prepare

    def prepared(params, loss, config, steps, hardware):
        state, update = prepare(params, loss, config, steps, hardware)
        return state, compiled.setdefault((config, steps), update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(improve_module, "prepare", prepared)
        yield


@pytest.fixture(scope="module")
def base(blind_params) -> PolicyFolder:
    return policy_folder(blind_params)


def session(path, pool, resume: bool = False, task: ScriptedTask = MIXED) -> Session:
    suite = Suite("scripted", (task,), ExpertStyle())
    return Session(RunFolder(path, {}, resume), suite, pool, seed=0)


def run(session: Session, base: PolicyFolder, config=RIPT) -> PolicyFolder:
    return improve(session, "ript", base, DEMOS, config, OPTIMIZER, FIRST_STEP)


def lines(path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    clocks = ("time", "elapsed", "seconds_rollout", "seconds_train", "env_steps_per_s")
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in clocks} for line in found]


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
    assert (first["phase"], first["arm"]) == ("rl", "ript")
    assert first["rollouts"] == 3 * first["groups_tried"]
    assert 0 < first["groups_accepted"] <= 2
    assert first["positive_weight_mean"] == pytest.approx(1, abs=0.5)
    assert {"loss", "loss_cond", "loss_uncond", "guidance_gap", "grad_norm"} <= first.keys()
    assert [p.name for p in (path / "checkpoints").iterdir()] == ["24"]
    host = checkpoint.latest(path / "checkpoints")
    assert host["iteration"] == 2
    tried = first["groups_tried"] + second["groups_tried"]
    assert host["sampler"]["drawn"] == tried


def test_rollouts_are_those_of_the_newest_parameters(unbroken):
    path, _ = unbroken
    for iteration, step in ((1, 20), (2, 22)):
        episodes = load_episodes(path / "episodes" / "ript" / f"{iteration:03d}.npz")
        assert {episode.policy_step for episode in episodes} == {step}
        assert min(episode.seed for episode in episodes) >= RIPT.first_seed


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
            "before the checkpoint": (checkpoint, "save"),
        }[where]
        original, calls = getattr(target, name), []

        def interrupted(*args, **options):
            calls.append(name)
            if len(calls) == 2:
                raise InterruptedError
            return original(*args, **options)

        patch.setattr(target, name, interrupted)
        with pytest.raises(InterruptedError):
            run(working, base)
    working.run.metrics.close()
    assert checkpoint.steps(path / "checkpoints") == [22]
    resumed = run(session(path, scripted_pool, resume=True), base)
    chex.assert_trees_all_equal(resumed.params, unbroken[1].params)
    # An iteration that was logged and then lost before its checkpoint is logged again.
    logged = lines(path)
    if where == "before the checkpoint":
        assert logged.pop(1) == logged[1]
    assert logged == lines(unbroken[0])
    a, b = (p / "episodes" / "ript" / "002.npz" for p in (path, unbroken[0]))
    for x, y in zip(load_episodes(a), load_episodes(b), strict=True):
        np.testing.assert_array_equal(x.actions, y.actions)


def test_a_finished_run_is_not_run_again(unbroken, scripted_pool, base):
    path, improved = unbroken
    before = (path / "metrics.jsonl").read_text()
    again = run(session(path, scripted_pool, resume=True), base)
    chex.assert_trees_all_equal(again.params, improved.params)
    assert (path / "metrics.jsonl").read_text() == before


def test_a_policy_that_never_succeeds_stays_as_it_is(tmp_path, scripted_pool, base, capsys):
    path = tmp_path / "run"
    improved = run(session(path, scripted_pool, task=HOPELESS), base)
    chex.assert_trees_all_equal(improved.params, jax.tree.map(np.asarray, base.params))
    assert "no group taught anything yet; no update" in capsys.readouterr().err
    assert [line["groups_accepted"] for line in lines(path)] == [0, 0]
    assert [line["groups_tried"] for line in lines(path)] == [6, 6]
    assert checkpoint.latest(path / "checkpoints")["iteration"] == 2


def test_filtered_cloning_has_its_own_folder(tmp_path, scripted_pool, base):
    """As config.baselines sets it up: alpha 0, all groups, weight 1 for each success."""
    config = dataclasses.replace(
        RIPT, iterations=1, success_weight=True, alpha=0.0, dynamic_sampling=False,
        demo_fraction=0.0, groups_per_step=4, max_groups=4,
    )  # fmt: skip
    path = tmp_path / "run"
    improve(session(path, scripted_pool), "filtered_bc", base, DEMOS, config, OPTIMIZER, 20)
    assert checkpoint.steps(path / "baselines" / "filtered_bc" / "checkpoints") == [22]
    assert not (path / "checkpoints").exists()
    (line,) = lines(path)
    assert (line["groups_accepted"], line["rollouts"]) == (4, 12)
    assert line["positive_share"] == pytest.approx(line["rollout_success"], abs=0.2)
    assert line["positive_weight_mean"] == 1.0
