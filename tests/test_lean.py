"""A large policy on a CPU acts by a program of least memory, with the same numbers."""

from dataclasses import replace

import jax
import numpy as np
from test_acting import made
from tiny import CONFIG

from pi0_jax.model import acting
from pi0_jax.model.config import ExpertConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.lean import lean
from pi0_jax.policy.policy import _STATIC, sample
from pi0_jax.testing import observation, random_params


def test_small_policies_and_other_devices_keep_their_program(monkeypatch):
    assert lean(sample, _STATIC, random_params()) is sample
    monkeypatch.setattr(acting, "LARGE", 0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert lean(sample, _STATIC, made(random_params())) is sample


def test_a_large_policy_needs_less_memory_for_the_same_chunks(monkeypatch):
    monkeypatch.setattr(acting, "LARGE", 0)
    # Wide enough that widened weights are more than anything else.
    sizes = ExpertConfig(128, 512)
    config = replace(CONFIG, vlm=sizes, action=sizes, depth=6, compute_dtype="bfloat16")
    model, params = Pi0(config), made(random_params(config=config), "bfloat16")
    noise = np.random.default_rng(0).standard_normal(
        (1, CONFIG.action_horizon, CONFIG.action_dim), np.float32
    )
    programs = sample, lean(sample, _STATIC, params)
    given = model, (1,), params, observation(1), noise, 2, 1.0
    plain, least = (program.lower(*given).compile() for program in programs)
    needed = [one.memory_analysis().temp_size_in_bytes for one in (plain, least)]
    # jax 0.12 widens none in either program.
    widened = sum(4 * leaf.size for leaf in jax.tree.leaves(params) if leaf.dtype == "bfloat16")
    assert needed[1] <= needed[0]
    assert needed[1] < 0.6 * widened
    plain, least = (program(*given) for program in programs)
    np.testing.assert_array_equal(plain, least)
