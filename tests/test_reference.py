"""Guidance from a base: the velocities of two policies mixed, with one prefix pass where it can."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from passes import velocity
from skips import slow
from tiny import CONFIG, MODEL, policy_folder

from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.model import lora
from pi0_jax.model.pi0 import POSITIVE, Pi0
from pi0_jax.policy.folder import PolicyFolder, save_policy
from pi0_jax.policy.policy import Policy, sample
from pi0_jax.policy.reference import (
    Reference,
    base_text,
    kind_of,
    sample_from_base,
    shares_prefix,
)
from pi0_jax.policy.reference_fit import with_reference
from pi0_jax.testing import observation, random_params, raw_obs

ROWS = 4  # of every call of the network, in all tests: other numbers would be other programs
SEEN = [raw_obs(seed=seed) for seed in range(3)]
NOISE = np.random.default_rng(1).standard_normal(
    (3, CONFIG.action_horizon, CONFIG.action_dim), np.float32
)


def far_from_the_clip(folder: PolicyFolder, **spec: object) -> PolicyFolder:
    narrow = NormStats(folder.stats.state, Stats(np.zeros(7), np.full(7, 1e-3)))
    return dataclasses.replace(folder, stats=narrow, spec=dataclasses.replace(folder.spec, **spec))


def other_expert(params: dict) -> dict:
    """The same VLM with another action expert and other layers around it."""
    other = random_params(seed=5)
    llm, layers = params["PaliGemma"]["llm"], dict(params["PaliGemma"]["llm"]["layers"])
    strange = other["PaliGemma"]["llm"]
    for name in layers:
        if name.endswith("_1"):
            layers[name] = strange["layers"][name]
    attn = layers["attn"] | {n: x for n, x in strange["layers"]["attn"].items() if n[-1] == "1"}
    llm = llm | {"layers": layers | {"attn": attn}, "final_norm_1": strange["final_norm_1"]}
    return other | {"PaliGemma": params["PaliGemma"] | {"llm": llm}}


@pytest.fixture(scope="module")
def policy(params) -> PolicyFolder:
    return far_from_the_clip(policy_folder(params))


@pytest.fixture(scope="module")
def base(policy) -> PolicyFolder:
    """As before RL with a frozen VLM: what is equal is equal in value, not the same array."""
    copied = jax.tree.map(np.array, other_expert(policy.params))
    return dataclasses.replace(policy, params=copied)


@pytest.fixture(scope="module")
def stranger(policy) -> PolicyFolder:
    """As before RL of all parameters: the VLM is another too."""
    return dataclasses.replace(policy, params=random_params(seed=6))


def act(folder: PolicyFolder, guidance: float = 1.0, steps: int = 2, **options) -> np.ndarray:
    return Policy.from_folder(folder, guidance, steps, ROWS, **options).act(SEEN, NOISE)


def test_in_one_step_it_is_linear_between_the_two_policies(policy, base, stranger):
    """With a single Euler step x - v: v(s) lies on the line through the base and the policy."""
    for other in (base, stranger):
        alone, own = act(other, steps=1), act(policy, steps=1)
        guided = act(with_reference(policy, other), 3.0, steps=1, reference="base")
        assert np.abs(own - alone).max() > 1e-5
        np.testing.assert_allclose(guided, alone + 3 * (own - alone), atol=1e-7)


def naive(policy: PolicyFolder, base: PolicyFolder, scale: float, obs, noise, steps: int):
    """Euler's method around two whole passes per step, prefix included; two equal rows."""
    x = np.stack([noise, noise], axis=1)
    ids = np.full(x.shape[:2], POSITIVE)
    for k in range(steps):
        time = np.full(x.shape[:2], 1 - k / steps, np.float32)
        v, v_base = (
            np.asarray(velocity(p, obs, x, time, ids)) for p in (policy.params, base.params)
        )
        x = x - (v_base + scale * (v - v_base)) / steps
    return x[:, 0]


@pytest.mark.parametrize("vlm", ["equal", "another"])
def test_it_equals_two_whole_passes_per_step(policy, base, stranger, vlm):
    other = base if vlm == "equal" else stranger
    obs, noise = observation(ROWS), np.concatenate([NOISE, NOISE[:1]])
    both = policy.params, with_reference(policy, other).reference
    shared = shares_prefix(*both)
    assert shared == (vlm == "equal")
    found = sample_from_base(
        MODEL, *both, obs, noise, 2, 1.5, shared_prefix=shared, two_prompts=False
    )
    three = jax.tree.map(lambda x: x[:3], obs)
    np.testing.assert_allclose(found[:3], naive(policy, other, 1.5, three, NOISE, 2), atol=1e-5)


@pytest.mark.parametrize(("shared", "passes"), [(True, 1), (False, 2)])
def test_a_shared_prefix_is_computed_once(policy, base, monkeypatch, shared, passes):
    calls, encode = [], Pi0.encode_prefix

    def counted(self, params, obs):
        calls.append(1)
        return encode(self, params, obs)

    monkeypatch.setattr(Pi0, "encode_prefix", counted)
    both = policy.params, with_reference(policy, base).reference
    # The function inside jit: a program that was compiled before would not be traced again.
    traced = partial(sample_from_base.__wrapped__, MODEL, shared_prefix=shared, two_prompts=False)
    jax.eval_shape(traced, *both, observation(3), NOISE, 3, 1.5)
    assert len(calls) == passes


def test_what_is_equal_lies_on_the_device_once(policy, base):
    found = Policy.from_folder(with_reference(policy, base), 2.0, reference="base")
    ours, theirs = (jax.tree.leaves(tree) for tree in (found.params, found.reference.params))
    own = [b for a, b in zip(ours, theirs, strict=True) if a is not b]
    expert = other_expert(policy.params)
    pairs = zip(jax.tree.leaves(policy.params), jax.tree.leaves(expert), strict=True)
    assert 0 < len(own) == sum(a is not b for a, b in pairs) < len(ours)
    assert shares_prefix(found.params, found.reference.params)
    text = base_text(found.params, found.reference.params)
    assert text.endswith(f"{len(own)} of whose {len(ours)} leaves are its own: one prefix pass")


def test_another_vlm_is_said(policy, stranger):
    folder = with_reference(policy, stranger)
    assert "two prefix passes, because the VLMs differ" in base_text(
        policy.params, folder.reference
    )


def test_at_1_the_reference_is_not_run_and_at_0_it_runs_alone(policy, base):
    guided = with_reference(policy, base)
    compiled = sample_from_base._cache_size()
    np.testing.assert_array_equal(act(guided, 1.0, reference="base"), act(policy))
    np.testing.assert_array_equal(act(guided, 0.0, reference="base"), act(base))
    assert sample_from_base._cache_size() == compiled
    # A policy that carries a reference and does not use it acts as one without.
    np.testing.assert_array_equal(act(guided, 2.0), act(policy, 2.0))


def test_scales_and_steps_do_not_compile_again(policy, base):
    guided = Policy.from_folder(with_reference(policy, base), 2.0, 2, ROWS, "base")
    first, plain = guided.act(SEEN, NOISE), sample._cache_size()
    compiled = sample_from_base._cache_size()
    other = dataclasses.replace(guided, guidance=1.5, num_flow_steps=3).act(SEEN, NOISE)
    assert np.abs(first - other).max() > 1e-6
    assert (sample_from_base._cache_size(), sample._cache_size()) == (compiled, plain)


def test_the_company_does_not_matter(policy, base):
    guided = Policy.from_folder(with_reference(policy, base), 2.0, 2, ROWS, "base")
    three = guided.act(SEEN, NOISE)
    np.testing.assert_array_equal(guided.act(SEEN[1:2], NOISE[1:2]), three[1:2])


def test_parameters_that_are_replaced_do_not_share_the_prefix(policy, base):
    """Else the base would be run over a prefix that is not its own."""
    guided = Policy.from_folder(with_reference(policy, base), 2.0, 1, ROWS, "base")
    moved = random_params(seed=7)
    found = guided.with_params(jax.device_put(moved)).act(SEEN, NOISE)
    new = act(with_reference(dataclasses.replace(policy, params=moved), base), 2.0, 1,
              reference="base")  # fmt: skip
    np.testing.assert_array_equal(found, new)


def test_a_policy_without_a_condition_is_guided_too(blind_params, base):
    blind = far_from_the_clip(policy_folder(blind_params))
    guided = act(with_reference(blind, base), 2.0, reference="base")
    assert np.abs(guided - act(blind)).max() > 1e-5


@pytest.mark.parametrize("branch_mode", ["prompt_dropout", "text_indicator"])
def test_with_two_prompts_both_get_the_positive_one(policy, base, branch_mode):
    model = dataclasses.replace(CONFIG, prompt_length=48)
    told, told_base = (far_from_the_clip(f, branch_mode=branch_mode, model=model)
                       for f in (policy, base))  # fmt: skip
    alone, own = act(told_base, steps=1), act(told, steps=1)
    guided = act(with_reference(told, told_base), 3.0, steps=1, reference="base")
    np.testing.assert_allclose(guided, alone + 3 * (own - alone), atol=1e-7)
    assert np.abs(own - act(told, 0.0, steps=1)).max() > 1e-6


@slow  # a pi0.5 is one more network; its rows and clocks: test_pi05
def test_pi05(policy):
    model = dataclasses.replace(CONFIG, pi05=True)
    folder, other = (
        far_from_the_clip(
            dataclasses.replace(policy, params=random_params(seed, model)), model=model
        )
        for seed in (0, 1)
    )
    alone, own = act(other, steps=1), act(folder, steps=1)
    guided = act(with_reference(folder, other), 3.0, steps=1, reference="base")
    np.testing.assert_allclose(guided, alone + 3 * (own - alone), atol=1e-7)


@pytest.fixture(scope="module")
def trained(policy):
    """The policy with adapters as after training."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(partial(lora.with_adapters, rank=2), policy.params, jax.random.key(0))
    adapters = jax.tree.map(
        lambda x: (0.1 * rng.standard_normal(x.shape)).astype(np.float32), shapes["lora"]
    )
    adapted = policy.params | {"lora": adapters}
    return dataclasses.replace(policy, params=adapted)


def test_a_policy_with_adapters_and_its_base_without_them(policy, trained):
    """Both have one set of weights; the adapters of the VLM give the policy another prefix."""
    folder = with_reference(trained, policy)
    assert not shares_prefix(folder.params, folder.reference)
    assert base_text(folder.params, folder.reference).startswith("guidance from a base, 0 of")


@slow  # adapters act as the weights they are merged to: test_lora; two prefixes: the tests above
def test_a_policy_with_adapters_is_guided_from_its_base(policy, trained):
    alone, own = act(policy, steps=1), act(trained, steps=1)
    guided = act(with_reference(trained, policy), 3.0, steps=1, reference="base")
    assert np.abs(own - alone).max() > 1e-6
    np.testing.assert_allclose(guided, alone + 3 * (own - alone), atol=1e-7)


def test_without_a_reference_there_is_scale_1_alone(policy):
    np.testing.assert_array_equal(act(policy, reference="none"), act(policy))
    with pytest.raises(InputError, match="guidance 2 needs a reference, and this policy"):
        Policy.from_folder(policy, 2.0, reference="none")
    with pytest.raises(InputError, match="guidance 0 needs a reference"):
        Policy.from_folder(policy, 0.0, reference="none")


def test_a_word_or_a_path(tmp_path, policy, base):
    assert [kind_of(x) for x in ("none", "base", "p", tmp_path)] == ["none", "base", "base", "base"]
    with pytest.raises(InputError, match=r"kind must be one of 'unconditional', 'base', 'none'"):
        Reference("bse")
    with pytest.raises(InputError, match="expected parameters for 'base' alone"):
        Reference("base")
    save_policy(tmp_path / "p", policy, {})
    save_policy(tmp_path / "b", base, {})
    save_policy(tmp_path / "both", with_reference(policy, base), {})
    with pytest.raises(InputError, match=r"'base': .*p carries none; name the folder"):
        Policy.load(tmp_path / "p", 2.0, reference="base")
    named = Policy.load(tmp_path / "p", 2.0, 2, ROWS, reference=tmp_path / "b")
    carried = Policy.load(tmp_path / "both", 2.0, 2, ROWS, reference="base")
    np.testing.assert_array_equal(named.act(SEEN, NOISE), carried.act(SEEN, NOISE))
    assert shares_prefix(carried.params, carried.reference.params)
