"""Prompts are cut to what is used; what the network computes stays as it is."""

import chex
import numpy as np
import pytest
from passes import rows, velocity

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


def test_the_network_computes_the_same(params):
    windows = padded(14)
    cut = trim_prompts(windows)
    assert cut.obs.prompt.shape[1] < windows.obs.prompt.shape[1]
    found = [velocity(params, w.obs, *rows()) for w in (windows, cut)]
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-5)
    # Nothing else of the windows is another.
    rest = [w.replace(obs=w.obs.replace(prompt=None, prompt_mask=None)) for w in (windows, cut)]
    chex.assert_trees_all_equal(*rest)
