"""One replica per device: the bits of an action depend on neither devices nor where weights lay."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skips import slow
from tiny import CONFIG, policy_folder

from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import RawObs
from pi0_jax.model import acting as form
from pi0_jax.model.lora import with_adapters
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.policy import Policy, branches, sample
from pi0_jax.policy.replicas import Replicas, Weights
from pi0_jax.testing import random_params, raw_obs

WORKER = Path(__file__).with_name("replicas_worker.py")
NUMBER, ROWS = 17, 2  # nine calls, the last half padded
MODEL = Pi0(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))


def seen() -> list[RawObs]:
    return [raw_obs(seed=number) for number in range(NUMBER)]


def noises() -> np.ndarray:
    shape = (NUMBER, CONFIG.action_horizon, CONFIG.action_dim)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def transforms() -> Transforms:
    return policy_folder({}).transforms


def acting(guidance: float = 1.0) -> Policy:
    return Policy(MODEL, random_params(), transforms(), guidance, num_flow_steps=2, rows=ROWS)


# Each device compiles its own program, so eight of them take half a minute.
@pytest.mark.parametrize("devices", [2, pytest.param(8, marks=slow)])
def test_several_devices_act_with_the_bits_of_one(tmp_path, monkeypatch, devices):
    monkeypatch.setattr(form, "LARGE", 0)  # as in the worker
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    out = tmp_path / "acted.npz"
    with subprocess.Popen([sys.executable, WORKER, out], env=environment) as started:
        one = acting().act(seen(), noises())
    assert started.returncode == 0
    several = np.load(out)
    assert several["on"].tolist() == [devices, devices]
    np.testing.assert_array_equal(several["from_host"], one)
    np.testing.assert_array_equal(several["from_training"], one)
    assert len(np.unique(one)) > NUMBER


# Guidance 2 computes both branches, guidance 1 one of them.
@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=slow), 2.0])
def test_held_in_the_dtype_of_their_use_they_act_as_float32_does(guidance):
    policy, params = acting(guidance), random_params()
    obs, noise = policy.transforms.observe(seen()[:ROWS]), noises()[:ROWS]
    held = policy._replicas.on(jax.local_devices()[0]).params
    whole, half = (
        np.asarray(sample(MODEL, branches(guidance), tree, obs, noise, 2, guidance))
        for tree in (params, held)
    )
    np.testing.assert_array_equal(whole, half)
    # Casting the others as well would not do.
    rounded = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
    assert np.any(sample(MODEL, branches(guidance), rounded, obs, noise, 2, guidance) != whole)


def test_which_leaves_are_cast():
    held = acting()._replicas.on(jax.local_devices()[0]).params
    llm, img = held["PaliGemma"]["llm"], held["PaliGemma"]["img"]
    layer, block = llm["layers"], img["Transformer"]["encoderblock"]
    cast = layer["mlp_1"]["linear"], layer["attn"]["q_einsum"]["w"], img["head"]["bias"]
    cast = *cast, block["MlpBlock_0"]["Dense_0"]["bias"]
    assert {leaf.dtype for leaf in cast} == {jnp.dtype("bfloat16")}
    kept = layer["pre_ffw_norm"]["scale"], block["LayerNorm_0"]["bias"], held["cond_embed"]
    kept = *kept, llm["embedder"]["input_embedding"], held["action_out_proj"]["kernel"]
    assert {leaf.dtype for leaf in kept} == {jnp.dtype("float32")}


def test_a_layer_with_adapters_is_held_as_it_is():
    params = with_adapters(random_params(), jax.random.key(0), rank=2)
    held = acting().with_params(params)._replicas.on(jax.local_devices()[0]).params
    assert held["PaliGemma"]["llm"]["layers"]["mlp"]["linear"].dtype == jnp.float32
    assert held["PaliGemma"]["img"]["head"]["kernel"].dtype == jnp.bfloat16


def test_what_two_trees_share_is_placed_once():
    params = random_params()
    base = params | {"cond_embed": params["cond_embed"] + 1}
    placed = Replicas(Weights(params, base), "bfloat16").on(jax.local_devices()[0])
    same = jax.tree.map(lambda a, b: a is b, *placed)
    assert not same.pop("cond_embed")
    assert all(jax.tree.leaves(same))


def test_another_scale_places_nothing_again_and_other_parameters_do():
    policy = acting()
    assert dataclasses.replace(policy, guidance=2.0).replicas is policy.replicas
    other = dataclasses.replace(policy, params=random_params(seed=1))
    assert other.replicas is not policy.replicas
