"""The CFG loss: two branches over one prefix are two passes, and a weight of 0 teaches nothing."""

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import CFG, KEY, SAMPLES, SIZE, gradient, windows
from skips import slow
from tiny import CONFIG, MODEL

from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.rl.objectives.cfg_detached import CfgDetached
from pi0_jax.rl.objectives.cfg_dropout import CfgDropout
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.testing import batch
from pi0_jax.training.fit import create_training
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.supervised import sample_noise_and_time

DROPOUT = CfgDropout(0.5)
# What is trained where the gradient of the rest would tell nothing new: it compiles in half the
# time, and in a third where no branch reads the embedding, so that nothing goes back through the
# action expert.
PART = ("cond_embed", "action_out_proj")
NOTHING_COUNTS = np.zeros(SIZE, np.float32)


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def one_pass(params, obs, branch, weight, x_t, time, target):
    """Weighted error of one branch and one draw: a whole pass of its own, prefix included.

    And the squared errors that it adds up, float32[b, H].
    """
    cache = MODEL.encode_prefix(params, obs)
    ids = jnp.full((len(x_t), 1), branch)
    v = MODEL.velocity(params, cache, obs.state, x_t[:, None], time[:, None], ids)[:, 0]
    errors = jnp.mean((v - target) ** 2, -1)
    return jnp.sum(weight * errors), errors


def naive_loss(params, windows, alpha: float, samples: int):
    """The loss and its gradients, added up pass by pass."""
    actions, noise, time = sample_noise_and_time(KEY, jnp.asarray(windows.actions), samples)
    counted = np.asarray(windows.action_mask, np.float32)
    weights = {POSITIVE: windows.weight[:, None] * counted, UNCONDITIONAL: alpha * counted}
    passes = []
    for (branch, weight), r in itertools.product(weights.items(), range(samples)):
        t, a, e = time[:, r, None, None], actions[:, r], noise[:, r]
        x_t = t * e + (1 - t) * a
        (value, _), grads = one_pass(params, windows.obs, branch, weight, x_t, time[:, r], e - a)
        passes.append(jax.device_get((value, grads)))
    return jax.tree.map(lambda *parts: sum(parts) / (samples * counted.sum()), *passes)


def test_the_shared_prefix_changes_nothing(params):
    (value, _), grads = gradient(CFG, params, windows())
    expected, expected_grads = naive_loss(params, windows(), CFG.alpha, SAMPLES)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-3, atol=2e-5)


def test_windows_of_weight_0_teach_the_unconditional_branch_only(params):
    unweighted = windows().replace(weight=NOTHING_COUNTS)
    (loss, metrics), grads = gradient(CFG, params, unweighted)
    np.testing.assert_array_equal(grads["cond_embed"][POSITIVE], 0)
    assert np.abs(grads["cond_embed"][UNCONDITIONAL]).max() > 0
    assert float(metrics["loss_cond"]) == 0.0
    assert float(loss) == pytest.approx(CFG.alpha * float(metrics["loss_uncond"]))


def test_alpha_0_leaves_behaviour_cloning(params):
    (loss, metrics), grads = gradient(Cfg(alpha=0.0), params, windows(), trained=PART)
    np.testing.assert_array_equal(grads["cond_embed"][UNCONDITIONAL], 0)
    assert np.abs(grads["cond_embed"][POSITIVE]).max() > 0
    assert float(loss) == float(metrics["loss_cond"])
    # Nothing positive, nothing to learn.
    unweighted = windows().replace(weight=NOTHING_COUNTS)
    _, grads = gradient(Cfg(alpha=0.0), params, unweighted, trained=PART)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0)


def test_the_weight_is_linear(params):
    (_, once), _ = gradient(CFG, params, windows())
    (_, twice), _ = gradient(CFG, params, windows().replace(weight=2 * windows().weight))
    assert float(twice["loss_cond"]) == pytest.approx(2 * float(once["loss_cond"]), rel=1e-6)
    assert float(twice["loss_uncond"]) == float(once["loss_uncond"])


def test_guidance_gap(params, blind_params):
    """Zero until the branch_mode has been learnt."""
    assert float(gradient(CFG, blind_params, windows())[0][1]["guidance_gap"]) == 0.0
    assert float(gradient(CFG, params, windows())[0][1]["guidance_gap"]) > 1e-3


def branch_error(params, drawn, row: int, positive: bool, has_two_prompts: bool):
    """Errors of one branch at one row of the draw, as a pass of its own."""
    actions, noise, time = (x[:, row] for x in drawn)
    t, seen = time[:, None, None], windows()
    obs = seen.obs
    if has_two_prompts:
        # An embedding of zeros is none.
        params = params | {"cond_embed": jnp.zeros_like(params["cond_embed"])}
        if not positive:
            obs = obs.replace(prompt=seen.uncond_prompt, prompt_mask=seen.uncond_prompt_mask)
    x_t = t * noise + (1 - t) * actions
    branch, any_weight = POSITIVE if positive else UNCONDITIONAL, np.ones_like(seen.action_mask)
    parts = (params, obs, branch, np.float32(any_weight), x_t, time, noise - actions)
    return np.asarray(one_pass(*parts)[0][1])


def trained(branch_mode: str):
    """None, for all, in the program that further tests take; by prompt none of them needs it."""
    return None if branch_mode == "embedding" else PART


@pytest.mark.parametrize(
    ("branch_mode", "shared"),
    [
        ("embedding", True),
        ("embedding", False),
        ("prompt_dropout", True),
        ("text_indicator", True),
    ],
)
def test_every_pair_of_branches_is_two_passes(params, branch_mode, shared):
    """Shared noise: both branches see draws 0 and 1; otherwise the second sees 2 and 3."""
    if shared:
        (value, metrics), _ = gradient(CFG, params, windows(), branch_mode, trained(branch_mode))
    else:
        loss = Cfg(CFG.alpha, shared_noise=False).loss(MODEL, SAMPLES, branch_mode)
        value, metrics = jax.jit(loss)(params, windows(), KEY)
    actions = jnp.asarray(windows().actions)
    drawn = sample_noise_and_time(KEY, actions, 2 if shared else 4)
    mask, text = windows().action_mask, branch_mode != "embedding"

    def mean(positive: bool, rows, weight) -> float:
        found = [branch_error(params, drawn, r, positive, text) for r in rows]
        return float(sum(np.sum(weight[:, None] * mask * e) for e in found) / (2 * mask.sum()))

    cond = mean(True, (0, 1), windows().weight)
    uncond = mean(False, (0, 1) if shared else (2, 3), np.ones(SIZE))
    assert float(metrics["loss_cond"]) == pytest.approx(cond, rel=1e-5)
    assert float(metrics["loss_uncond"]) == pytest.approx(uncond, rel=1e-5)
    assert float(value) == pytest.approx(cond + CFG.alpha * uncond, rel=1e-5)
    # Of other noise the velocities of the branches say nothing of each other.
    assert ("guidance_gap" in metrics) == shared


@pytest.mark.parametrize("branch_mode", ["prompt_dropout", "text_indicator"])
@pytest.mark.parametrize("objective", [CFG, DROPOUT, FilteredBc()], ids=str)
def test_branches_by_prompt_leave_the_embedding_alone(params, objective, branch_mode):
    """They work without it, and branches by embedding do not."""
    rest = {name: leaf for name, leaf in params.items() if name != "cond_embed"}
    jax.eval_shape(objective.loss(MODEL, SAMPLES, branch_mode), rest, windows(), KEY)
    with pytest.raises(KeyError, match="cond_embed"):
        jax.eval_shape(objective.loss(MODEL, SAMPLES, "embedding"), rest, windows(), KEY)


@pytest.mark.parametrize("branch_mode", ["embedding", "text_indicator"])
def test_a_single_pass_trains_one_branch_of_each_window(params, branch_mode):
    drawn, dropped = DROPOUT.loss(MODEL, SAMPLES, branch_mode).sample(KEY, windows())
    dropped = np.asarray(dropped)
    assert 0 < dropped.sum() < SIZE  # both branches are among them
    (value, metrics), _ = gradient(DROPOUT, params, windows(), branch_mode, PART)
    mask, text = windows().action_mask, branch_mode != "embedding"
    total = {True: 0.0, False: 0.0}
    for positive, row in itertools.product((True, False), (0, 1)):
        error = branch_error(params, drawn, row, positive, text)
        weight = np.where(dropped, 0, windows().weight) if positive else dropped
        total[positive] += np.sum(weight[:, None] * mask * error) / (2 * mask.sum())
    assert float(metrics["loss_cond"]) == pytest.approx(total[True], rel=1e-5)
    assert float(metrics["loss_uncond"]) == pytest.approx(total[False], rel=1e-5)
    assert float(value) == pytest.approx(sum(total.values()), rel=1e-5)  # no alpha
    assert "guidance_gap" not in metrics


def test_how_often_a_branch_is_dropped():
    many = batch(2).replace(weight=np.zeros(4000, np.float32))
    many = many.replace(actions=np.zeros((4000, 4, 8), np.float32))
    for seed in (5, 6):
        _, dropped = CfgDropout(0.3).loss(MODEL, 1, "embedding").sample(jax.random.key(seed), many)
        assert np.mean(dropped) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("objective", "branch_mode"),
    [(CFG, "text_indicator"), (DROPOUT, "embedding")],
    ids=str,
)
def test_micro_batches_give_the_gradient_of_the_whole(params, objective, branch_mode):
    (whole, _), grads = gradient(objective, params, windows(), branch_mode, PART)
    # One branch of the parameters: gradients are cut and added alike, whatever they are of.
    part = {"action_out_proj": params["action_out_proj"]}
    rest = {name: leaf for name, leaf in params.items() if name not in part}
    in_two = jax.jit(accumulated_gradient(objective.loss(MODEL, SAMPLES, branch_mode), 2))
    (parts, _), summed = in_two(part, rest, windows(), KEY)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    expected = {name: grads[name] for name in part}
    chex.assert_trees_all_close(summed, expected, rtol=1e-3, atol=2e-5)


def test_filtered_bc_adds_up_the_weighted_errors_of_the_conditional_branch(params):
    """By one whole pass per draw: mean of w |v - u|^2 over windows, draws and real steps."""
    (value, _), grads = gradient(FilteredBc(), params, windows())
    expected, expected_grads = naive_loss(params, windows(), 0.0, SAMPLES)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-3, atol=2e-5)


@slow
def test_filtered_bc_is_cfg_at_alpha_0(params):
    (one, _), whole = gradient(FilteredBc(), params, windows())
    (two, _), others = gradient(Cfg(alpha=0.0), params, windows(), trained=PART)
    grads = {name: whole[name] for name in PART}
    chex.assert_trees_all_close((one, grads), (two, others), rtol=1e-4, atol=1e-6)


def test_cfg_detached_trains_its_row_as_cfg_and_all_else_as_filtered_bc(params):
    """The trunk and the positive row feel L_cond alone; the unconditional row feels L_uncond."""
    _, plain = gradient(FilteredBc(), params, windows())
    _, cfg = gradient(CFG, params, windows())
    _, grads = gradient(CfgDetached(CFG.alpha), params, windows())
    row = grads["cond_embed"][UNCONDITIONAL]
    np.testing.assert_allclose(row, cfg["cond_embed"][UNCONDITIONAL], rtol=1e-3, atol=1e-6)
    rest = {"cond_embed": grads["cond_embed"].at[UNCONDITIONAL].set(0.0)}
    chex.assert_trees_all_equal(grads | rest, plain)


class Linear:
    """A network of two leaves, quick to compile: a factor, and a row of the embedding."""

    def encode_prefix(self, params, obs):
        return jnp.zeros(())

    def velocity(self, params, cache, state, x_t, time, ids):
        return params["factor"] * x_t + params["cond_embed"][ids][..., None, :]


def test_updates_of_cfg_detached_are_those_of_filtered_bc_to_the_bit():
    """Three updates whose gradients are clipped: only the unconditional row is another."""
    rows = np.random.default_rng(0).standard_normal((2, CONFIG.action_dim), np.float32)
    params = {"cond_embed": rows, "factor": np.full(CONFIG.action_dim, 2.0, np.float32)}
    optimizer = OptimizerConfig(1e-2, 0, clip_norm=0.1)
    ends = []
    for objective in (FilteredBc(), CfgDetached(10.0)):
        loss = objective.loss(Linear(), SAMPLES, "embedding")  # pyright: ignore[reportArgumentType]
        state, update = create_training(params, loss, optimizer, 3)
        for _ in range(3):
            state, metrics = update(state, windows(), KEY)
            assert metrics["grad_norm/model"] > 2 * optimizer.clip_norm
        ends.append(jax.device_get(state.params))
    plain, detached = ends
    start, one, two = (np.asarray(tree.pop("cond_embed")) for tree in (dict(params), *ends))
    chex.assert_trees_all_equal(detached, plain)
    np.testing.assert_array_equal(two[POSITIVE], one[POSITIVE])
    np.testing.assert_array_equal(one[UNCONDITIONAL], start[UNCONDITIONAL])
    assert np.abs(two - start).min() > 1e-3  # both rows have learnt


def test_cfg_detached_needs_the_embedding():
    with pytest.raises(InputError, match=r"trains one row .* set it to 'embedding'"):
        CfgDetached().loss(MODEL, 1, "text_indicator")


@pytest.mark.parametrize(
    ("objective", "trained", "guided"),
    [
        (CFG, None, True),
        (CfgDetached(CFG.alpha), None, True),
        (DROPOUT, PART, True),
        (FilteredBc(), None, False),
    ],
    ids=str,
)
def test_an_objective_knows_whether_it_has_guidance(params, objective, trained, guided):
    """It has where the unconditional row gets a gradient."""
    _, grads = gradient(objective, params, windows(), trained=trained)
    assert objective.has_guidance is guided
    assert bool(np.abs(grads["cond_embed"][UNCONDITIONAL]).max() > 0) is guided
