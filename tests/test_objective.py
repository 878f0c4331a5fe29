"""The CFG loss: two branches over one prefix are two passes, and a weight of 0 teaches nothing."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL, batch

from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL
from pi0_jax.rl.objective import cfg_flow_matching_loss
from pi0_jax.training.supervised import draw

KEY = jax.random.key(5)


@jax.jit
@jax.value_and_grad
def one_pass(params, obs, condition, weight, x_t, time, target):
    """Weighted error of one branch and one draw: a whole pass of its own, prefix included."""
    cache = MODEL.encode_prefix(params, obs)
    ids = jnp.full((len(x_t), 1), condition)
    v = MODEL.velocity(params, cache, obs.state, x_t[:, None], time[:, None], ids)[:, 0]
    return jnp.sum(weight * jnp.mean((v - target) ** 2, -1))


def naive_loss(params, windows, alpha: float, samples: int):
    """The loss and its gradients, added up pass by pass."""
    actions, noise, time = draw(KEY, jnp.asarray(windows.actions), samples)
    counted = np.asarray(windows.action_mask, np.float32)
    weights = {POSITIVE: windows.weight[:, None] * counted, UNCONDITIONAL: alpha * counted}
    passes = []
    for (condition, weight), r in itertools.product(weights.items(), range(samples)):
        t, a, e = time[:, r, None, None], actions[:, r], noise[:, r]
        x_t = t * e + (1 - t) * a
        parts = (params, windows.obs, condition, weight, x_t, time[:, r], e - a)
        passes.append(one_pass(*parts))
    return jax.tree.map(lambda *parts: sum(parts) / (samples * counted.sum()), *passes)


@pytest.mark.parametrize(("size", "samples", "alpha"), [(2, 2, 0.1), (5, 1, 0.3)])
def test_the_shared_prefix_changes_nothing(params, size, samples, alpha):
    windows = batch(size)
    windows = windows.replace(weight=windows.weight + 0.25)
    loss = cfg_flow_matching_loss(MODEL, alpha, samples)
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
                lambda p, w, alpha=alpha: cfg_flow_matching_loss(MODEL, alpha, 1)(p, w, KEY),
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


def test_alpha_0_leaves_filtered_behaviour_cloning(gradient, params):
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
    """Zero until the condition has been learnt."""
    assert float(gradient(blind_params, batch(3), 0.1)[0][1]["guidance_gap"]) == 0.0
    assert float(gradient(params, batch(3), 0.1)[0][1]["guidance_gap"]) > 1e-3
