"""The CFG loss: two branches over one prefix are two passes, and a weight of 0 teaches nothing."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.rl.objectives.cfg_detached import CfgDetached
from pi0_jax.rl.objectives.cfg_dropout import CfgDropout
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.testing import batch
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.step import whole_gradient
from pi0_jax.training.supervised import sample_noise_and_time

KEY = jax.random.key(5)


@jax.jit
@jax.value_and_grad
def one_pass(params, obs, branch_mode, weight, x_t, time, target):
    """Weighted error of one branch and one draw: a whole pass of its own, prefix included."""
    cache = MODEL.encode_prefix(params, obs)
    ids = jnp.full((len(x_t), 1), branch_mode)
    v = MODEL.velocity(params, cache, obs.state, x_t[:, None], time[:, None], ids)[:, 0]
    return jnp.sum(weight * jnp.mean((v - target) ** 2, -1))


def naive_loss(params, windows, alpha: float, samples: int):
    """The loss and its gradients, added up pass by pass."""
    actions, noise, time = sample_noise_and_time(KEY, jnp.asarray(windows.actions), samples)
    counted = np.asarray(windows.action_mask, np.float32)
    weights = {POSITIVE: windows.weight[:, None] * counted, UNCONDITIONAL: alpha * counted}
    passes = []
    for (branch_mode, weight), r in itertools.product(weights.items(), range(samples)):
        t, a, e = time[:, r, None, None], actions[:, r], noise[:, r]
        x_t = t * e + (1 - t) * a
        parts = (params, windows.obs, branch_mode, weight, x_t, time[:, r], e - a)
        passes.append(one_pass(*parts))
    return jax.tree.map(lambda *parts: sum(parts) / (samples * counted.sum()), *passes)


@pytest.mark.parametrize(("size", "samples", "alpha"), [(2, 2, 0.1), (5, 1, 0.3)])
def test_the_shared_prefix_changes_nothing(params, size, samples, alpha):
    windows = batch(size)
    windows = windows.replace(weight=windows.weight + 0.25)
    loss = Cfg(alpha).loss(MODEL, samples, "embedding")
    value, grads = jax.jit(jax.value_and_grad(lambda p: loss(p, windows, KEY)[0]))(params)
    expected, expected_grads = naive_loss(params, windows, alpha, samples)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-3, atol=2e-5)


@pytest.fixture(scope="module")
def gradient():
    """Gradient and metrics for any weights, alpha 0 or 0.1, in one compilation each."""
    compiled = {
        alpha: jax.jit(
            jax.value_and_grad(
                lambda p, w, alpha=alpha: Cfg(alpha).loss(MODEL, 1, "embedding")(p, w, KEY),
                has_aux=True,
            )
        )
        for alpha in (0.0, 0.1)
    }
    return lambda params, windows, alpha: compiled[alpha](params, windows)


def test_windows_of_weight_0_teach_the_unconditional_branch_only(gradient, params):
    windows = batch(3).replace(weight=np.zeros(3, np.float32))
    (loss, metrics), grads = gradient(params, windows, 0.1)
    np.testing.assert_array_equal(grads["cond_embed"][POSITIVE], 0)
    assert np.abs(grads["cond_embed"][UNCONDITIONAL]).max() > 0
    assert float(metrics["loss_cond"]) == 0.0
    assert float(loss) == pytest.approx(0.1 * float(metrics["loss_uncond"]))


def test_alpha_0_leaves_behaviour_cloning(gradient, params):
    windows = batch(3)  # weights 0, 0.5, 1
    (loss, metrics), grads = gradient(params, windows, 0.0)
    np.testing.assert_array_equal(grads["cond_embed"][UNCONDITIONAL], 0)
    assert np.abs(grads["cond_embed"][POSITIVE]).max() > 0
    assert float(loss) == float(metrics["loss_cond"])
    # Nothing positive, nothing to learn.
    _, grads = gradient(params, windows.replace(weight=np.zeros(3, np.float32)), 0.0)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0)


def test_the_weight_is_linear(gradient, params):
    windows = batch(3)
    (_, once), _ = gradient(params, windows, 0.1)
    (_, twice), _ = gradient(params, windows.replace(weight=2 * windows.weight), 0.1)
    assert float(twice["loss_cond"]) == pytest.approx(2 * float(once["loss_cond"]), rel=1e-6)
    assert float(twice["loss_uncond"]) == float(once["loss_uncond"])


def test_guidance_gap(gradient, params, blind_params):
    """Zero until the branch_mode has been learnt."""
    assert float(gradient(blind_params, batch(3), 0.1)[0][1]["guidance_gap"]) == 0.0
    assert float(gradient(params, batch(3), 0.1)[0][1]["guidance_gap"]) > 1e-3


@jax.jit
def errors(params, obs, branch_mode, x_t, time, target):
    """Squared errors of one draw, float32[b, H]: a whole pass; without a branch_mode if None."""
    cache = MODEL.encode_prefix(params, obs)
    ids = None if branch_mode is None else jnp.full((len(x_t), 1), branch_mode)
    v = MODEL.velocity(params, cache, obs.state, x_t[:, None], time[:, None], ids)[:, 0]
    return jnp.mean((v - target) ** 2, -1)


def branch_error(params, windows, drawn, row: int, positive: bool, has_two_prompts: bool):
    """Errors of one branch at one row of the draw, as a pass of its own."""
    actions, noise, time = (x[:, row] for x in drawn)
    t, obs = time[:, None, None], windows.obs
    branch_mode = POSITIVE if positive else UNCONDITIONAL
    if has_two_prompts:
        branch_mode = None
        if not positive:
            obs = obs.replace(prompt=windows.uncond_prompt, prompt_mask=windows.uncond_prompt_mask)
    x_t = t * noise + (1 - t) * actions
    return np.asarray(errors(params, obs, branch_mode, x_t, time, noise - actions))


def two_prompts(size: int):
    """Windows whose unconditional branch has another prompt, of another length."""
    windows = batch(size)
    windows = windows.replace(weight=windows.weight + np.float32(0.25))
    other = batch(size, seed=9).obs
    mask = np.arange(16) < 2
    return windows.replace(
        uncond_prompt=np.where(mask, other.prompt + 1, 0).astype(np.int32),
        uncond_prompt_mask=np.broadcast_to(mask, other.prompt.shape),
    )


@pytest.mark.parametrize("branch_mode", ["embedding", "prompt_dropout", "text_indicator"])
@pytest.mark.parametrize("shared", [True, False])
def test_every_pair_of_branches_is_two_passes(params, branch_mode, shared):
    """Shared noise: both branches see draws 0 and 1; otherwise the second sees 2 and 3."""
    windows = two_prompts(3)
    loss = Cfg(0.3, shared).loss(MODEL, 2, branch_mode)
    value, metrics = jax.jit(loss)(params, windows, KEY)
    drawn = sample_noise_and_time(KEY, jnp.asarray(windows.actions), 2 if shared else 4)
    mask, text = np.asarray(windows.action_mask), branch_mode != "embedding"

    def mean(positive: bool, rows, weight) -> float:
        found = [branch_error(params, windows, drawn, r, positive, text) for r in rows]
        return float(sum(np.sum(weight[:, None] * mask * e) for e in found) / (2 * mask.sum()))

    cond = mean(True, (0, 1), windows.weight)
    uncond = mean(False, (0, 1) if shared else (2, 3), np.ones(3))
    assert float(metrics["loss_cond"]) == pytest.approx(cond, rel=1e-5)
    assert float(metrics["loss_uncond"]) == pytest.approx(uncond, rel=1e-5)
    assert float(value) == pytest.approx(cond + 0.3 * uncond, rel=1e-5)
    assert float(metrics["guidance_gap"]) > 1e-3


@pytest.mark.parametrize("branch_mode", ["prompt_dropout", "text_indicator"])
def test_branches_by_prompt_leave_the_embedding_alone(params, branch_mode):
    windows = two_prompts(2)
    for objective in (Cfg(), CfgDropout(0.5), FilteredBc()):
        loss = objective.loss(MODEL, 1, branch_mode)
        grads = jax.jit(jax.grad(lambda p, loss=loss: loss(p, windows, KEY)[0]))(params)
        np.testing.assert_array_equal(grads["cond_embed"], 0)
        assert np.abs(grads["action_out_proj"]["kernel"]).max() > 0


@pytest.mark.parametrize("branch_mode", ["embedding", "text_indicator"])
def test_a_single_pass_trains_one_branch_of_each_window(params, branch_mode):
    windows = two_prompts(6)
    loss = CfgDropout(0.5).loss(MODEL, 2, branch_mode)
    drawn, dropped = loss.sample(KEY, windows)
    dropped = np.asarray(dropped)
    assert 0 < dropped.sum() < 6  # both branches are among them
    value, metrics = jax.jit(loss)(params, windows, KEY)
    mask, text = np.asarray(windows.action_mask), branch_mode != "embedding"
    total = {True: 0.0, False: 0.0}
    for positive, row in itertools.product((True, False), (0, 1)):
        error = branch_error(params, windows, drawn, row, positive, text)
        weight = np.where(dropped, 0, windows.weight) if positive else dropped
        total[positive] += np.sum(weight[:, None] * mask * error) / (2 * mask.sum())
    assert float(metrics["loss_cond"]) == pytest.approx(total[True], rel=1e-5)
    assert float(metrics["loss_uncond"]) == pytest.approx(total[False], rel=1e-5)
    assert float(value) == pytest.approx(sum(total.values()), rel=1e-5)  # no alpha
    assert "guidance_gap" not in metrics


def test_how_often_a_branch_is_dropped():
    windows = batch(2).replace(weight=np.zeros(4000, np.float32))
    windows = windows.replace(actions=np.zeros((4000, 4, 8), np.float32))
    _, dropped = CfgDropout(0.3).loss(MODEL, 1, "embedding").sample(KEY, windows)
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.03)
    _, dropped = CfgDropout(0.3).loss(MODEL, 1, "embedding").sample(jax.random.key(6), windows)
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("branch_mode", ["embedding", "text_indicator"])
@pytest.mark.parametrize("objective", [Cfg(), CfgDropout(0.5), FilteredBc()], ids=str)
def test_micro_batches_give_the_gradient_of_the_whole(params, branch_mode, objective):
    windows = two_prompts(4)
    loss = objective.loss(MODEL, 1, branch_mode)
    flat = {"state_proj": params["state_proj"], "cond_embed": params["cond_embed"]}
    rest = {name: leaf for name, leaf in params.items() if name not in flat}
    (whole, _), grads = jax.jit(whole_gradient(loss))(flat, rest, windows, KEY)
    (parts, _), summed = jax.jit(accumulated_gradient(loss, 2))(flat, rest, windows, KEY)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    chex.assert_trees_all_close(summed, grads, rtol=1e-3, atol=2e-5)


def value_and_grad(objective, params, windows):
    """Loss and gradient of one objective, two draws per window."""
    loss = objective.loss(MODEL, 2, "embedding")
    return jax.jit(jax.value_and_grad(lambda p: loss(p, windows, KEY)[0]))(params)


def test_filtered_bc_is_cfg_at_alpha_0(params):
    windows = batch(3)
    one, two = (value_and_grad(x, params, windows) for x in (FilteredBc(), Cfg(alpha=0.0)))
    chex.assert_trees_all_close(one, two, rtol=1e-4, atol=1e-6)


def test_cfg_detached_trains_the_trunk_as_filtered_bc_and_its_row_as_cfg(params):
    """The trunk and the positive row feel L_cond alone; the unconditional row feels L_uncond."""
    windows = batch(3)
    _, plain = value_and_grad(FilteredBc(), params, windows)
    _, cfg = value_and_grad(Cfg(alpha=0.7), params, windows)
    for alpha in (0.0, 0.7):
        _, grads = value_and_grad(CfgDetached(alpha), params, windows)
        expected = cfg if alpha else plain
        np.testing.assert_allclose(
            grads["cond_embed"][UNCONDITIONAL],
            expected["cond_embed"][UNCONDITIONAL],
            rtol=1e-3,
            atol=1e-6,
        )
        rest = {"cond_embed": grads["cond_embed"].at[UNCONDITIONAL].set(0.0)}
        chex.assert_trees_all_close(grads | rest, plain, rtol=1e-4, atol=1e-6)


def test_cfg_detached_needs_the_embedding():
    with pytest.raises(InputError, match=r"trains one row .* set it to 'embedding'"):
        CfgDetached().loss(MODEL, 1, "text_indicator")


@pytest.mark.parametrize(
    ("objective", "guided"),
    [(Cfg(), True), (CfgDetached(), True), (CfgDropout(0.5), True), (FilteredBc(), False)],
    ids=str,
)
def test_an_objective_knows_whether_it_has_guidance(params, objective, guided):
    """It has where the unconditional row gets a gradient."""
    _, grads = value_and_grad(objective, params, batch(8))
    assert objective.has_guidance is guided
    assert bool(np.abs(grads["cond_embed"][UNCONDITIONAL]).max() > 0) is guided
