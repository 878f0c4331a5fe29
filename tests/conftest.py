"""Shared fixtures: one set of tiny parameters and one simulator pool, made once and reused."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: do not optimise what runs once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODEL

from pi0_jax.env.workers.pool import SimulatorPool


@pytest.fixture(scope="session")
def params():
    """Parameters of `tiny.MODEL` as after training: none is zero, `cond_embed` included."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


@pytest.fixture(scope="session")
def blind_params(params):
    """The same before RL: `cond_embed` is zero."""
    return params | {"cond_embed": jnp.zeros_like(params["cond_embed"])}


@pytest.fixture(scope="module")
def scripted_pool():
    """Two workers for `ScriptedTask`s."""
    with SimulatorPool(2, timeout_s=20) as pool:
        yield pool
