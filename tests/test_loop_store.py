"""When a loop is stored, and what is done again after each kind of interruption."""

import dataclasses
import json
import shutil

import chex
import pytest
from loops import DEMOS, MIXED, OPTIMIZER
from tiny import policy_folder, ript

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.suite import Suite
from pi0_jax.errors import InputError
from pi0_jax.interruption import ask
from pi0_jax.policy.folder import load_policy, save_policy
from pi0_jax.rl import evaluation, loop, stored_loop
from pi0_jax.rl.loop_store import LoopCheckpointsConfig
from pi0_jax.rl.stop import Outcome
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint

pytestmark = pytest.mark.usefixtures("thrift")

FIRST_STEP = 20
FOUR = ript(iterations=4, updates_per_iteration=1)
EVALUATION = EvalConfig(
    episodes=2, first_seed=100, guidance=(1.0,), num_flow_steps=1, videos=0, every=2
)
# Everything of metrics.jsonl that does not tell the time.
TOLD = ("step", "iteration", "loss", "rollouts", "updates", "success_drop", "eval_success")


def start(pool, path, params, every: int = 2, config=FOUR, evaluation=None):
    """Runs a loop in a folder that has its base policy, or goes on with it; the result."""
    # A run has a pool of its own: this one must not get what another has left in it.
    while pool.gather():
        pass
    run = RunFolder(path, {}, (path / "config.json").exists())
    if not (path / "base").exists():
        save_policy(path / "base", policy_folder(params), {})
    suite = Suite("scripted", (MIXED,), DemonstratorConfig())
    session = Session(run, suite, pool, seed=0, rows=8)
    base, checkpoints = load_policy(path / "base"), LoopCheckpointsConfig(keep=9, every=every)
    try:
        return run_stored_ript(
            session, "ript", base, DEMOS, config, OPTIMIZER, FIRST_STEP,
            evaluation=evaluation, checkpoints=checkpoints,
        )  # fmt: skip
    finally:
        run.metrics.close()


@pytest.fixture
def started(scripted_pool, blind_params, tmp_path):
    """(name, every) -> what `start` gives in a folder of this name."""
    return lambda name, *args, **options: start(
        scripted_pool, tmp_path / name, blind_params, *args, **options
    )


@pytest.fixture(scope="module")
def whole(scripted_pool, blind_params, tmp_path_factory):
    """Path and result of four iterations without an interruption, evaluated after the second."""
    path = tmp_path_factory.mktemp("whole")
    return path, start(scripted_pool, path, blind_params, evaluation=EVALUATION)


def told(path) -> list[dict]:
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    found = [{k: line[k] for k in TOLD if k in line} for line in found if line["phase"] == "rl"]
    return sorted(found, key=lambda line: (line["iteration"], "eval_success" in line))


def stop_in_rollouts(patch, iteration: int, error: type[BaseException]) -> None:
    def rolling_out(setup, state, on_episodes, ended):
        def report(episodes):
            if state.iteration + 1 == iteration and len(episodes) == 4:
                raise error
            on_episodes(episodes)

        return loop.roll_out(setup, state, report, ended)

    patch.setattr(stored_loop, "roll_out", rolling_out)


def steps(path) -> list[int]:
    return checkpoint.steps(path / "checkpoints")


def check(run, result, whole) -> None:
    """A run that was resumed is the unbroken one, but for its evaluations, which it had none of."""
    chex.assert_trees_all_equal(result.params, whole[1].params)
    assert told(run) == [line for line in told(whole[0]) if "eval_success" not in line]


def test_every_nth_iteration_and_the_last_are_stored(started, tmp_path, whole):
    assert steps(whole[0]) == [22, 24]
    assert len(list(whole[0].glob("checkpoints/*/frozen.json"))) == 2
    check(tmp_path / "run", started("run", 3), whole)
    assert steps(tmp_path / "run") == [23, 24]


def test_a_killed_run_repeats_what_came_after_its_checkpoint(
    started, tmp_path, monkeypatch, capsys, whole
):
    """In the rollouts of iteration 4; what other iterations had kept is of no use."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        stop_in_rollouts(patch, 4, InterruptedError)
        started("run")
    assert steps(run) == [22]
    for number in (2, 4):
        (run / f"episodes/ript/{number:03d}.parts").mkdir()
    capsys.readouterr()
    check(run, started("run"), whole)
    said = capsys.readouterr().err
    for number in (2, 4):
        assert f"removed kept rollouts that are of no use now: {number:03d}.parts" in said
    assert not list(run.rglob("*.parts"))


def test_a_stop_in_the_rollouts_stores_the_state_before_them(started, tmp_path, monkeypatch, whole):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_rollouts(patch, 4, KeyboardInterrupt)
        started("run")
    assert steps(run) == [22, 23]
    assert len(list((run / "episodes/ript/004.parts").iterdir())) == 4
    check(run, started("run"), whole)
    assert not (run / "episodes/ript/004.parts").exists()


@pytest.mark.parametrize(("every", "stored"), [(3, [22]), (1, [21])])
def test_a_stop_in_updates_waits_for_them_where_they_take_the_only_copy(
    started, tmp_path, monkeypatch, every, stored, whole
):
    """In iteration 2: with every=1 its state before is stored, and it ends at once."""
    run = tmp_path / "run"

    def learning(setup, state, rollouts):
        if state.iteration == 1:
            ask()
        return loop.learn(setup, state, rollouts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stored_loop, "learn", learning)
        started("run", every)
    assert steps(run) == stored
    assert (run / "episodes/ript/002.parts").exists() is (every == 1)
    check(run, started("run"), whole)


def test_an_evaluation_that_is_stopped_is_made_on_resume(started, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation, "evaluate_states", lambda *args, **options: ask())
        started("run", 3, evaluation=EVALUATION)
    assert steps(tmp_path / "run") == [22]
    started("run", 3, evaluation=EVALUATION)
    assert told(tmp_path / "run") == told(whole[0])
    assert sum("eval_success" in line for line in told(whole[0])) == 2


def test_episodes_of_another_iteration_are_refused(started, tmp_path, whole):
    shutil.copytree(whole[0], tmp_path / "run")
    episodes = tmp_path / "run/episodes/ript"
    shutil.copyfile(episodes / "001.npz", episodes / "003.npz")
    with pytest.raises(InputError, match=r"003.npz: is not the file that iteration 3 of this run"):
        started("run", evaluation=EVALUATION)


def test_the_best_policy_is_stored_if_the_run_may_end_with_it(started, tmp_path, monkeypatch):
    """3, 4, 1 successes of 6: the policy after iteration 1 was the best."""
    config, successes = (
        ript(iterations=6, updates_per_iteration=1, max_drop=1.0),
        {0: 3, 1: 4, 2: 1},
    )
    monkeypatch.setattr(loop, "outcome_of", lambda _, step: Outcome(successes[step], 6, step))
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        stop_in_rollouts(patch, 3, InterruptedError)
        started("run", 9, config)
    assert steps(run) == [21]
    found = started("run", 9, config)
    assert [line["updates"] for line in told(run)] == [1, 1, 0]
    started("one", 1, dataclasses.replace(FOUR, iterations=1))
    acted = checkpoint.load_tree(tmp_path / "one/checkpoints/21/state").values()
    embedding = found.params["cond_embed"]
    assert any(one.shape == embedding.shape and (one == embedding).all() for one in acted)
