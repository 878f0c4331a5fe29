"""One pass of a tiny network, compiled once per network: tests take 3 observations and 2 rows."""

from functools import partial
from typing import Any

import jax
import numpy as np
from tiny import CONFIG, MODEL

from pi0_jax.model.pi0 import Pi0
from pi0_jax.types import Observation

OBSERVATIONS, ROWS = 3, 2


@partial(jax.jit, static_argnames="model")
def velocity(
    params: Any, obs: Observation, x_t: Any, time: Any, condition: Any, model: Pi0 = MODEL
) -> jax.Array:
    """Velocities [b, r, H, d] of all rows, prefix included; arguments as `Pi0.velocity`."""
    cache = model.encode_prefix(params, obs)
    return model.velocity(params, cache, obs.state, x_t, time, condition)


def rows(batch: int = OBSERVATIONS, count: int = ROWS, seed: int = 0) -> tuple[np.ndarray, ...]:
    """x_t, time and condition of `count` suffix rows per observation; conditions alternate."""
    rng = np.random.default_rng(seed)
    shape = (batch, count, CONFIG.action_horizon, CONFIG.action_dim)
    x_t = rng.standard_normal(shape, np.float32)
    time = rng.uniform(0, 1, (batch, count)).astype(np.float32)
    return x_t, time, np.arange(batch * count).reshape(batch, count) % 2
