"""Shared fixtures: one set of tiny parameters and one simulator pool, made once and reused."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.env.pool import SimulatorPool


@pytest.fixture(scope="session")
def fresh_params():
    """Random parameters of `tiny.MODEL`; `cond_embed` is zero."""
    return jax.jit(MODEL.init)(jax.random.key(0))


@pytest.fixture(scope="session")
def params(fresh_params):
    """The same after training, so to speak: no parameter is zero, `cond_embed` included."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), fresh_params
    )


@pytest.fixture(scope="module")
def scripted_pool():
    """Two workers for `ScriptedTask`s."""
    with SimulatorPool(2, timeout_s=20) as pool:
        yield pool
