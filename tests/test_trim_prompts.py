"""Prompts are cut to what is used; losses and actions stay as they are."""

import jax
import numpy as np
import pytest
from tiny import CONFIG, MODEL

from pi0_jax.policy.policy import sample
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch
from pi0_jax.training.trim_prompts import trim_prompts


def padded(longest: int, length: int = 48):
    """Three windows with prompts of `longest` tokens and fewer, padded to `length`."""
    windows = batch(3)
    mask = np.arange(length) < np.array([[longest], [1], [longest // 2]])
    ids = np.random.default_rng(0).integers(1, 258, mask.shape).astype(np.int32)
    obs = windows.obs.replace(prompt=np.where(mask, ids, 0), prompt_mask=mask)
    return windows.replace(obs=obs)


@pytest.mark.parametrize(
    ("longest", "length"), [(0, 16), (1, 16), (16, 16), (17, 32), (33, 48), (48, 48)]
)
def test_lengths(longest, length):
    cut = trim_prompts(padded(longest))
    assert cut.obs.prompt.shape == cut.obs.prompt_mask.shape == (3, length)
    assert cut.obs.prompt_mask.sum() == padded(longest).obs.prompt_mask.sum()


@pytest.mark.parametrize(("own", "other", "length"), [(5, 20, 32), (20, 5, 32), (3, 2, 16)])
def test_the_longest_prompt_of_both_branches_decides(own, other, length):
    windows, second = padded(own), padded(other).obs
    windows = windows.replace(uncond_prompt=second.prompt, uncond_prompt_mask=second.prompt_mask)
    cut = trim_prompts(windows)
    assert cut.obs.prompt.shape == cut.uncond_prompt.shape == (3, length)
    assert cut.obs.prompt_mask.sum() == windows.obs.prompt_mask.sum()
    assert cut.uncond_prompt_mask.sum() == second.prompt_mask.sum()


def test_a_short_padding_is_left_alone():
    assert trim_prompts(padded(5, length=10)).obs.prompt.shape == (3, 10)


def test_nothing_changes(params):
    windows = padded(14)
    loss = jax.jit(Cfg(0.1).loss(MODEL, 1, "embedding"))
    values = [
        float(loss(params, w, jax.random.key(0))[0]) for w in (windows, trim_prompts(windows))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    noise = np.ones((3, CONFIG.action_horizon, CONFIG.action_dim), np.float32)
    chunks = [
        sample(MODEL, (0, 1), params, w.obs, noise, 3, 2.0)
        for w in (windows, trim_prompts(windows))
    ]
    np.testing.assert_allclose(*chunks, atol=1e-5)
