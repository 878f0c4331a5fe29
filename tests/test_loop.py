"""The loop in memory: pure steps, an own loss, and callbacks that see each iteration."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loops import DEMOS, EASY, MIXED, OPTIMIZER
from tiny import MODEL, RIPT, policy_folder, ript

from pi0_jax.data.windows import count
from pi0_jax.model import flow
from pi0_jax.policy.policy import Policy
from pi0_jax.rl import loop as loop_module
from pi0_jax.rl.iteration import WeightedWindows
from pi0_jax.rl.loop import (
    improved_policy,
    learn,
    opening_lines,
    roll_out,
    run_iteration,
    run_ript,
    with_windows,
)
from pi0_jax.rl.objectives.flow_pg import FlowPg
from pi0_jax.rl.setup import create_loop
from pi0_jax.testing import batch
from pi0_jax.training import setup as training_setup
from pi0_jax.training.fit import ONE_DEVICE
from pi0_jax.training.supervised import sample_noise_and_time

pytestmark = pytest.mark.usefixtures("thrift")


@pytest.fixture(scope="module")
def base(blind_params):
    return policy_folder(blind_params)


def test_only_equal_losses_share_an_update(base):
    """A check of the fixture above: with another alpha, another program."""

    def update(alpha: float):
        loss = ript(cfg={"alpha": alpha}).chosen.loss(MODEL, 2, "embedding")
        return training_setup.create_training(base.params, loss, OPTIMIZER, 4, ONE_DEVICE)[1]

    assert update(0.1) is update(0.1)
    assert update(0.1) is not update(0.0)


def run(pool, base, config=RIPT, optimizer=OPTIMIZER, task=MIXED, **options):
    # After 20 steps of imitation: the noise of these rollouts solves MIXED in each iteration.
    options = {"demonstrations": DEMOS, "first_step": 20, **options}
    return run_ript(base, [task], pool, config, optimizer, **options)


def bias(params) -> np.ndarray:
    return np.asarray(params["action_out_proj"]["bias"])


def test_one_iteration_with_an_own_loss_as_a_notebook_runs_it(scripted_pool, base):
    # 20 lines from here to `improved`.
    def huber(network):
        def loss(params, batch, rng):
            actions, noise, time = sample_noise_and_time(rng, batch.actions, 1)
            x_t = flow.interpolate(actions, noise, time)  # [b, 1, H, d]
            cache = network.encode_prefix(params, batch.obs)
            v = network.velocity(params, cache, batch.obs.state, x_t, time)
            error = optax.huber_loss(v, noise - actions).mean((1, 3))  # [b, H]
            weighted = error * batch.action_mask * batch.weight[:, None]
            return jnp.mean(weighted), {"largest_weight": batch.weight.max()}

        return loss

    config = ript(iterations=1, demo_fraction=0.0)
    setup, state = create_loop(base, [MIXED], scripted_pool, config, OPTIMIZER, loss=huber)
    state, report = run_iteration(setup, state)
    improved = improved_policy(setup, state)
    assert state.iteration == report.iteration == 1
    assert report.optimizer_step == 2 == int(state.train_state.step)
    # For 3 rollouts of which m succeeded, the one weight above 0 is 1.5 (m = 1) or 0.75 (m = 2).
    assert 0.5 < report.metrics["largest_weight"] <= 1.5
    assert np.abs(bias(improved.params) - bias(base.params)).max() > 1e-4
    # What the base led away from is no reference of what came of it.
    carried = dataclasses.replace(base, reference=base.params)
    carrying = dataclasses.replace(setup, base=carried)
    assert improved_policy(carrying, state).reference is None
    # The loss names no branch, so the embedding that tells branches apart has no gradient.
    chex.assert_trees_all_equal(improved.params["cond_embed"], base.params["cond_embed"])


def pull(network):
    """A loss that pulls one bias to 1 and reads nothing else: quick to compile."""
    assert network.config == MODEL.config
    return lambda params, batch, rng: (
        jnp.mean((params["action_out_proj"]["bias"] - 1) ** 2),
        {"seven": jnp.float32(7)},
    )


def test_the_loss_that_is_given_is_the_one_that_is_minimised(scripted_pool, base):
    """2 updates at rate 1e-3, the first warm."""
    reports = []
    improved = run(
        scripted_pool, base, ript(iterations=1), loss=pull,
        on_iteration=lambda state, report: reports.append(report),
    )  # fmt: skip
    assert reports[0].metrics["seven"] == 7
    start = bias(base.params)
    assert reports[0].metrics["loss"] == pytest.approx(np.mean((start - 1) ** 2), abs=0.01)
    towards = np.sign(1 - start)
    assert (towards * (bias(improved.params) - start) > 1e-4).all()
    chex.assert_trees_all_close(
        improved.params["action_in_proj"], base.params["action_in_proj"], atol=1e-7
    )


def test_on_iteration_sees_each_iteration_and_its_state(scripted_pool, base):
    seen, said = [], []
    run(
        scripted_pool,
        base,
        ript(iterations=3),
        on_iteration=lambda state, report: seen.append(
            (state.iteration, report.iteration, report.optimizer_step, int(state.train_state.step))
        ),
        log=said.append,
    )
    assert seen == [(1, 1, 22, 2), (2, 2, 24, 4), (3, 3, 26, 6)]
    assert said[0].startswith("3 iterations of 2 groups x 3 from fresh states")


def test_an_iteration_without_informative_groups_changes_no_parameter(scripted_pool, base):
    said, reports = [], []
    improved = run(
        scripted_pool, base, ript(iterations=1), task=EASY, log=said.append,
        on_iteration=lambda state, report: reports.append(report),
    )  # fmt: skip
    chex.assert_trees_all_equal(improved.params, jax.tree.map(np.asarray, base.params))
    assert said[1:] == list(reports[0].remarks)
    assert said[1].startswith("iteration 1: no group was informative (6 tried, 100% of the")
    assert "loss" not in reports[0].metrics
    assert reports[0].metrics["updates"] == 0
    assert reports[0].metrics["rollout_success"] == 1.0


NFT = {
    "objective": "nft", "advantage": {"success_weight": True}, "buffer_iterations": 1,
    "demo_fraction": 0.0, "log_every": 1,
}  # fmt: skip


def test_updates_that_run_away_end_the_iteration(scripted_pool, base):
    """The first of four updates has rate 0; what the second changes is seen in the third."""
    said, reports = [], []
    config = ript(iterations=1, updates_per_iteration=4, nft={"max_drift": 1e-9}, **NFT)
    run(
        scripted_pool, base, config, log=said.append, demonstrations=None,
        on_iteration=lambda state, report: reports.append(report),
    )  # fmt: skip
    (report,) = reports
    assert report.metrics["updates"] == 3
    assert report.optimizer_step == 23
    assert report.metrics["drift"] > 0
    assert said[1:] == list(report.remarks)
    assert said[1].startswith("iteration 1: drift ")
    assert said[1].endswith(" is above 1e-09: the updates end after 3 of 4")


def test_an_iteration_is_rollouts_and_then_updates(scripted_pool, base):
    """The halves give what the whole gives; the rollouts are repeatable."""
    results = []
    for whole in (True, False):
        setup, state = create_loop(
            base, [MIXED], scripted_pool, RIPT, OPTIMIZER, demonstrations=DEMOS
        )
        ended = []
        rollouts = roll_out(setup, state, lambda episodes, ended=ended: ended.append(len(episodes)))
        assert ended == list(range(1, len(rollouts.collected.episodes) + 1))
        halves = None if whole else learn(setup, state, rollouts)
        state, report = halves or run_iteration(setup, state)
        results.append((improved_policy(setup, state).params, state.init_states, rollouts))
        assert report.remarks == ()
        assert report.metrics["windows"] == count(state.buffer[1])
    (params, init_states, first), (again, same, second) = results
    chex.assert_trees_all_equal(params, again)
    assert init_states == same == first.init_states
    for a, b in zip(first.collected.episodes, second.collected.episodes, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)


@pytest.mark.parametrize(("kept", "left"), [(0, [1, 3, 4]), (1, [4]), (2, [3, 4])])
def test_a_buffer_forgets_what_is_too_old(kept, left):
    """Iteration 2 brought no windows."""
    buffer, config = {}, ript(buffer_iterations=kept)
    for iteration in (1, 2, 3, 4):
        fresh = WeightedWindows(None if iteration == 2 else batch(iteration))
        buffer = with_windows(config, buffer, iteration, fresh)
    assert list(buffer) == left
    assert [count(part) for part in buffer.values()] == left


@pytest.mark.parametrize("kept", [0, 1])
def test_updates_draw_from_the_whole_buffer(monkeypatch, scripted_pool, base, kept):
    sizes, fresh = [], []
    draw = loop_module.draw_batch

    def spied(rollouts, *rest):
        sizes.append(tuple(map(count, rollouts)))
        return draw(rollouts, *rest)

    monkeypatch.setattr(loop_module, "draw_batch", spied)
    run(
        scripted_pool, base, ript(iterations=3, buffer_iterations=kept), first_step=40,
        on_iteration=lambda state, report: fresh.append(report.metrics["windows"]),
    )  # fmt: skip
    assert all(fresh)  # otherwise this test says nothing
    if kept:
        assert sizes == [(n,) for n in fresh for _ in range(2)]
    else:
        assert sizes == [tuple(fresh[: i + 1]) for i in range(3) for _ in range(2)]


def test_rollouts_of_the_moving_average(monkeypatch, scripted_pool, base):
    """With decay 0.9 it lags: other parameters act, from the second iteration on."""
    optimizer = dataclasses.replace(OPTIMIZER, ema_decay=0.9)
    acted = []
    original = Policy.with_params

    def spied(policy, params):
        acted.append(bias(params))
        return original(policy, params)

    monkeypatch.setattr(Policy, "with_params", spied)
    for name in ("last", "ema"):
        run(scripted_pool, base, ript(rollout_params=name), optimizer, loss=pull)
    first, last, again, average = acted
    np.testing.assert_array_equal(first, again)
    # Two updates away from the base: the average has gone a tenth to a fifth of the way.
    share = np.abs(average - first).max() / np.abs(last - first).max()
    assert 0.05 < share < 0.3


@pytest.mark.parametrize(("log_every", "mean"), [(1, 1.5), (3, 2.5), (10, 3.0)])
def test_metrics_are_means_over_the_measured_updates(scripted_pool, base, log_every, mean):
    """Of 4 updates, whose step is measured: 0 to 3; the third and the last; the last."""
    config = ript(iterations=1, updates_per_iteration=4, log_every=log_every)
    setup, state = create_loop(
        base, [MIXED], scripted_pool, config, OPTIMIZER, demonstrations=DEMOS
    )

    def update(state, batch, rng):
        metrics = {"loss": jnp.float32(state.step)}
        return state.replace(step=state.step + 1), metrics

    counting = dataclasses.replace(setup, update=update)
    _, report = run_iteration(counting, state)
    assert report.metrics["loss"] == mean


def test_the_opening_lines_warn_of_a_dangerous_setting():
    assert opening_lines(RIPT) == [str(RIPT)]
    dangerous = ript(advantage={"clipping": "symmetric", "negatives": "signed"})
    assert opening_lines(dangerous)[1].startswith("warning: rl.advantage.negatives is 'signed'")


PG = ript(
    objective="flow_pg",
    buffer_iterations=1,
    demo_fraction=0.0,
    advantage={"negatives": "signed", "clipping": "none"},
    updates_per_iteration=1,
)


def test_a_policy_gradient_on_the_chains_of_its_own_rollouts(scripted_pool, base):
    """The rollouts keep their chains; the ratio starts at 1, and failures have weights below 0."""
    seen, reports = [], []
    improved = run_ript(
        base, [MIXED], scripted_pool, PG, OPTIMIZER, first_step=20,
        on_iteration=lambda state, report: (seen.append(state), reports.append(report)),
    )  # fmt: skip
    assert np.abs(bias(improved.params) - bias(base.params)).max() > 1e-4
    for state, report in zip(seen, reports, strict=True):
        ((_, windows),) = state.buffer.items()  # this iteration's alone
        calls = sum(int(e.chunk_start.sum()) for g in report.collected.groups for e in g.episodes)
        # One window per policy call, of 10 flow steps.
        assert count(windows) == calls == report.metrics["windows"]
        assert windows.chain.shape == (calls, 11, 4, 8)
        assert windows.chain_log_prob.shape == (calls, 10, 4, 7)
        # 3 steps of each chunk of 4 are executed before the policy is asked again.
        assert set(windows.action_mask.sum(1)) <= {1, 2, 3}
        assert windows.weight.min() < 0 < windows.weight.max()
        # One update per iteration, at the parameters that acted.
        assert report.metrics["ratio_max"] == pytest.approx(1, abs=2e-3)
        assert report.metrics["ratio_mean"] == pytest.approx(1, abs=2e-4)
        assert report.metrics["approx_kl"] == pytest.approx(0, abs=1e-5)
        assert report.metrics["clip_fraction"] == 0


def test_rollouts_have_the_noise_that_was_learned(scripted_pool, base):
    learned = dataclasses.replace(PG, flow_pg=FlowPg(learn_noise=True))
    rules = (("loss/noise", 100.0), *OPTIMIZER.rules)
    optimizer = dataclasses.replace(OPTIMIZER, rules=rules)
    setup, state = create_loop(base, [MIXED], scripted_pool, learned, optimizer)
    level = learned.chosen.noise_in(state.train_state.params)
    np.testing.assert_allclose(level, np.ones(8), rtol=1e-5)
    for _ in range(2):  # the first update is at rate 0
        state, report = run_iteration(setup, state)
    assert report.metrics["noise_level"] == pytest.approx(1, rel=1e-5)  # before the update
    level = learned.chosen.noise_in(state.train_state.params)
    assert np.abs(level[:7] - 1).min() > 1e-3 and level[7] == pytest.approx(1, rel=1e-5)
    # The first flow step of the first chunk has the same mean, and the learned deviation.
    fixed = dataclasses.replace(setup, config=PG)
    chains = [roll_out(one, state).collected.episodes[0].chain[0, :2] for one in (setup, fixed)]
    np.testing.assert_array_equal(chains[0][0], chains[1][0])
    assert np.abs(chains[0][1] - chains[1][1])[:, :7].max() > 1e-3
    assert improved_policy(setup, state).params.keys() == base.params.keys()


def test_evaluation_and_all_other_objectives_follow_the_plain_flow(scripted_pool, base):
    plain = ript(objective="filtered_bc", demo_fraction=0.0, iterations=1)
    setup, state = create_loop(base, [MIXED], scripted_pool, plain, OPTIMIZER)
    episodes = roll_out(setup, state).collected.episodes
    assert all(episode.chain is None for episode in episodes)
