"""Accumulated gradients are those of the whole batch."""

import functools

import chex
import jax
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.errors import InputError
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.step import split, whole_gradient

KEY = jax.random.key(5)
LOSS = Cfg(0.1).loss(MODEL, 2, "embedding")
# Gradients are cut and added alike, whatever they are of: that of one layer compiles soonest.
RULES = (("action_out_proj/.*", 1.0), (".*", 0.0))


@pytest.fixture(scope="module")
def gradient(params):
    """Windows -> ((loss, metrics), gradient), in one pass."""
    return functools.partial(jax.jit(whole_gradient(LOSS)), *split(params, RULES), rng=KEY)


@pytest.fixture(scope="module")
def whole(gradient):
    return gradient(batch=batch(6))


def test_the_whole_batch_in_parts(params, whole):
    """The rows have 1, 2, 3, 4, 4, 4 real steps: means of means would be wrong."""
    in_parts = jax.jit(accumulated_gradient(LOSS, 3))
    (loss, metrics), grads = in_parts(*split(params, RULES), batch(6), KEY)
    (expected, expected_metrics), expected_grads = whole
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for name in ("loss_cond", "loss_uncond"):
        assert float(metrics[name]) == pytest.approx(float(expected_metrics[name]), rel=1e-5)
    assert all(path.startswith("action_out_proj/") for path in grads)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-3, atol=2e-5)


def test_a_plain_mean_of_means_would_differ(gradient, whole):
    """The test above can fail."""
    plain, losses = batch(6), []
    for i in range(3):
        # The mean over one part is that of the batch in which no other window has a real step.
        mask = plain.action_mask & (np.arange(6) % 3 == i)[:, None]
        losses.append(float(gradient(batch=plain.replace(action_mask=mask))[0][0]))
    assert abs(np.mean(losses) / float(whole[0][0]) - 1) > 1e-3


def test_a_batch_that_cannot_be_cut(params):
    with pytest.raises(InputError, match=r"batch size 6 is not a multiple .*micro_batches 4"):
        jax.eval_shape(accumulated_gradient(LOSS, 4), *split(params, RULES), batch(6), KEY)
