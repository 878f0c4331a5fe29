"""The guard of a run in a folder: a policy that gets worse is stopped, and its best is kept."""

import shutil

import chex
import jax
import numpy as np
import pytest
from loops import DEMOS, MIXED, OPTIMIZER
from skips import slow
from stored import FIRST_STEP, interrupt, lines, run, session
from tiny import policy_folder, ript

from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl import loop
from pi0_jax.rl.loop import run_ript
from pi0_jax.rl.stop import Outcome
from pi0_jax.run.folder import RunFolder
from pi0_jax.training import checkpoint

pytestmark = pytest.mark.usefixtures("thrift")


@pytest.fixture(scope="module")
def base(blind_params) -> PolicyFolder:
    return policy_folder(blind_params)


WORSE = (
    "iteration 4: 1 of 6 rollouts succeeded, 2.3 standard errors below the 5 of 6 of iteration 3"
)
GUARDED = ript(iterations=6, updates_per_iteration=1, max_drop=2.0)


@pytest.fixture
def worse(monkeypatch):
    """Iterations 1 to 4 have 3, 4, 5, 1 successes of 6: 2.3 is (4 / 6) / sqrt(1/4 * 2/6)."""
    successes = {0: 3, 1: 4, 2: 5, 3: 1}

    def outcome_of(episodes, optimizer_step):
        return Outcome(successes[optimizer_step], 6, optimizer_step)

    monkeypatch.setattr(loop, "outcome_of", outcome_of)


def test_a_policy_that_gets_worse_is_stopped_and_its_best_is_kept(
    worse, tmp_path, scripted_pool, base, monkeypatch, capsys
):
    """The best rollouts were those of iteration 3, so of the policy after two iterations."""
    two = ript(iterations=2, updates_per_iteration=1)
    best = run(session(tmp_path / "best", scripted_pool), base, two)
    assert np.abs(best.params["cond_embed"] - base.params["cond_embed"]).max() > 0
    path, said = tmp_path / "run", []
    improved = run(session(path, scripted_pool), base, GUARDED)
    chex.assert_trees_all_equal(improved.params, best.params)
    assert f"ript: {WORSE}: training stops" in capsys.readouterr().err
    found = lines(path)
    assert [line["updates"] for line in found] == [1, 1, 1, 0]
    assert [round(line["success_drop"], 1) for line in found] == [0.0, 0.0, 0.0, 2.3]
    # 21 is what the checkpoint before the newest would go back to.
    assert checkpoint.steps(path / "checkpoints") == [21, 22, 23]
    # In memory, too.
    again = run_ript(
        base, [MIXED], scripted_pool, GUARDED, OPTIMIZER, demonstrations=DEMOS,
        first_step=FIRST_STEP, log=said.append,
    )  # fmt: skip
    chex.assert_trees_all_equal(again.params, best.params)
    assert said[-1].startswith(WORSE)


def test_the_checkpoint_before_a_damaged_one_finds_its_best(worse, tmp_path, scripted_pool, base):
    whole = run(session(tmp_path / "run", scripted_pool), base, GUARDED)
    shutil.rmtree(tmp_path / "run/checkpoints/23/state")
    again = run(session(tmp_path / "run", scripted_pool, resume=True), base, GUARDED)
    chex.assert_trees_all_equal(again.params, whole.params)
    assert [line["updates"] for line in lines(tmp_path / "run")] == [1, 1, 1, 0]


@pytest.mark.parametrize("calls", [2, *(pytest.param(n, marks=slow) for n in (4, None))])
def test_a_stop_survives_an_interruption(worse, tmp_path, scripted_pool, base, monkeypatch, calls):
    """In the rollouts of iteration 2 or 4, or after the end."""
    whole = run(session(tmp_path / "whole", scripted_pool), base, GUARDED)
    path = tmp_path / "run"
    working = session(path, scripted_pool)
    with monkeypatch.context() as patch:
        if calls:
            interrupt(patch, RunFolder, "progress", calls)
            with pytest.raises(InterruptedError):
                run(working, base, GUARDED)
        else:
            run(working, base, GUARDED)
    working.run.metrics.close()
    resumed = run(session(path, scripted_pool, resume=True), base, GUARDED)
    chex.assert_trees_all_equal(resumed.params, whole.params)
    assert lines(path) == lines(tmp_path / "whole")


def test_where_the_first_rollouts_were_best_the_base_policy_is_kept(tmp_path, scripted_pool, base):
    """With 6, 4 and 2 of 6; the policy of iteration 1 has no checkpoint."""
    path, config = tmp_path / "run", ript(iterations=3, max_drop=2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "outcome_of", lambda episodes, step: Outcome(6 - step, 6, step))
        improved = run(session(path, scripted_pool), base, config)
        again = run(session(path, scripted_pool, resume=True), base, config)
    chex.assert_trees_all_equal(improved.params, jax.tree.map(np.asarray, base.params))
    chex.assert_trees_all_equal(again.params, improved.params)
    assert [line["updates"] for line in lines(path)] == [2, 2, 0]
