"""A policy answers each observation alone, whatever the batch, and compiles once."""

import dataclasses

import numpy as np
import pytest
from tiny import CONFIG, MODEL, policy_folder

from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy, branches, sample
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.testing import random_params, raw_obs

ROWS = 4  # of every call of the network, in all tests: other numbers would be other programs
HORIZON, DIM = CONFIG.action_horizon, CONFIG.action_dim


@pytest.fixture(scope="module")
def folder(params):
    return policy_folder(params)


def observations(number: int) -> list[RawObs]:
    rng = np.random.default_rng(0)
    return [
        RawObs(
            rng.integers(256, size=(2, 16, 16, 3), dtype=np.uint8),
            rng.uniform(-1, 1, 8).astype(np.float32),
            "go to it"[: 4 + i % 4],
        )
        for i in range(number)
    ]


def noises(number: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, HORIZON, DIM), np.float32)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_equal_noise_gives_equal_actions_in_any_batch(folder, guidance):
    policy = Policy.from_folder(folder, guidance, num_flow_steps=2, rows=ROWS)
    seen, noise = observations(8), noises(8)
    eight = policy.act(seen, noise)
    assert eight.shape == (8, HORIZON, 7)
    assert eight.dtype == np.float32
    three = policy.act(seen[2:5], noise[2:5])
    one = policy.act(seen[4:5], noise[4:5])
    # Bit for bit: an episode must not depend on who else is in the batch.
    np.testing.assert_array_equal(three, eight[2:5])
    np.testing.assert_array_equal(one, eight[4:5])
    # The test can fail: other noise, other actions.
    assert np.abs(policy.act(seen[4:5], noise[:1]) - one).max() > 1e-3


def test_every_chunk_can_have_a_seed_of_its_own(folder):
    policy = Policy.from_folder(folder, num_flow_steps=2, rows=ROWS)
    seen = observations(3)
    together = policy.act_seeded(seen, [(7,), (1, 2, 3), (7,)])
    np.testing.assert_array_equal(together[0], policy.act(seen[:1], seed=7)[0])
    np.testing.assert_array_equal(together[1:2], policy.act_seeded(seen[1:2], [(1, 2, 3)]))
    assert np.abs(together[1] - policy.act_seeded(seen[1:2], [(1, 2, 4)])[0]).max() > 1e-3


def test_more_observations_than_rows(folder):
    policy = Policy.from_folder(folder, num_flow_steps=2, rows=ROWS)
    seen, noise = observations(19), noises(19)
    together = policy.act(seen, noise)
    np.testing.assert_array_equal(together[17:], policy.act(seen[17:], noise[17:]))
    assert len(together) == 19


def test_scales_that_need_one_branch():
    assert branches(0.0) == (0,)
    assert branches(1.0) == (1,)
    assert branches(0.5) == branches(2.0) == (0, 1)


def test_guidance_is_linear_in_one_step(folder):
    """With a single Euler step x - v: v(s) lies on the line through v(0) and v(1)."""
    wide = NormStats(folder.stats.state, Stats(np.zeros(7), np.full(7, 1e-3)))
    narrow = dataclasses.replace(folder, stats=wide)  # far from the clip
    at = {
        scale: Policy.from_folder(narrow, scale, num_flow_steps=1, rows=ROWS).act(
            observations(3), noises(3)
        )
        for scale in (0.0, 1.0, 3.0)
    }
    assert np.abs(at[1.0] - at[0.0]).max() > 1e-5
    np.testing.assert_allclose(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), atol=1e-7)


def test_without_a_condition_learnt_all_scales_agree(blind_params):
    act = {
        scale: Policy.from_folder(
            policy_folder(blind_params), scale, num_flow_steps=2, rows=ROWS
        ).act(observations(3), noises(3))
        for scale in (0.0, 1.0, 3.0)
    }
    np.testing.assert_array_equal(act[0.0], act[1.0])
    np.testing.assert_allclose(act[0.0], act[3.0], atol=1e-5)


def test_steps_scales_and_parameters_do_not_compile_again(folder, params):
    policy = Policy.from_folder(folder, 2.0, num_flow_steps=2, rows=ROWS)
    first = policy.act(observations(3), noises(3))
    compiled = sample._cache_size()
    more = dataclasses.replace(policy, num_flow_steps=5).act(observations(3), noises(3))
    dataclasses.replace(policy, guidance=1.5).act(observations(2), noises(2))
    other = params | {"cond_embed": -params["cond_embed"]}
    moved = policy.with_params(other).act(observations(3), noises(3))
    assert sample._cache_size() == compiled
    assert np.abs(first - more).max() > 1e-4
    assert np.abs(first - moved).max() > 1e-6


def test_actions_are_clipped(folder):
    loud = NormStats(folder.stats.state, Stats(np.full(7, 0.5), np.full(7, 50.0)))
    actions = Policy.from_folder(
        dataclasses.replace(folder, stats=loud), num_flow_steps=2, rows=ROWS
    ).act(observations(3), noises(3))
    assert actions.max() == 1.0
    assert actions.min() == -1.0


def test_an_action_is_the_sample_in_the_robots_units(folder):
    policy = Policy.from_folder(folder, num_flow_steps=2, rows=ROWS)
    seen, noise = observations(ROWS), noises(ROWS)
    obs = policy.transforms.observe(seen)
    chunk = np.asarray(sample(MODEL, (1,), policy.params, obs, noise, 2, 1.0))
    expected = np.clip(chunk[..., :7] * (0.6 + 1e-6) - 0.1, -1, 1)
    np.testing.assert_allclose(policy.act(seen, noise), expected, atol=1e-5)


def has_two_prompts(folder, branch_mode: str, prompt_length: int = 48):
    """The same parameters, told apart by prompts; far from the clip."""
    wide = NormStats(folder.stats.state, Stats(np.zeros(7), np.full(7, 1e-3)))
    model = dataclasses.replace(folder.spec.model, prompt_length=prompt_length)
    spec = dataclasses.replace(folder.spec, model=model, branch_mode=branch_mode)
    return dataclasses.replace(folder, spec=spec, stats=wide)


BY_PROMPT = pytest.mark.parametrize("branch_mode", ["prompt_dropout", "text_indicator"])


@BY_PROMPT
def test_branches_with_prompts_of_their_own(folder, branch_mode):
    """Each alone is a policy that is told its prompt; guided, they mix in every Euler step."""
    told = has_two_prompts(folder, branch_mode)
    seen, noise = observations(ROWS), noises(ROWS)
    at = {
        scale: Policy.from_folder(told, scale, num_flow_steps=1, rows=ROWS).act(seen, noise)
        for scale in (0.0, 1.0, 3.0)
    }
    transforms = dataclasses.replace(told.transforms, branch_mode="embedding")
    for scale, say in ((0.0, ""), (1.0, "{}")) if branch_mode == "prompt_dropout" else (
        (0.0, "{}"), (1.0, "{}. Advantage: positive"),
    ):  # fmt: skip
        obs = transforms.observe(
            [dataclasses.replace(o, prompt=say.format(o.prompt)) for o in seen]
        )
        model = Policy.from_folder(told).model
        chunk = np.asarray(sample(model, (1,), folder.params, obs, noise, 1, 1.0, two_prompts=True))
        expected = transforms.robot_actions(chunk, np.stack([o.state for o in seen]))
        np.testing.assert_allclose(at[scale], expected, atol=1e-6)
    assert np.abs(at[1.0] - at[0.0]).max() > 1e-5
    np.testing.assert_allclose(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), atol=1e-7)


@BY_PROMPT
def test_with_prompts_too_the_company_does_not_matter(folder, branch_mode):
    policy = Policy.from_folder(
        has_two_prompts(folder, branch_mode), 2.0, num_flow_steps=2, rows=ROWS
    )
    seen, noise = observations(8), noises(8)
    eight = policy.act(seen, noise)
    np.testing.assert_array_equal(policy.act(seen[2:5], noise[2:5]), eight[2:5])
    compiled = sample._cache_size()
    dataclasses.replace(policy, guidance=3.0, num_flow_steps=4).act(seen[:1], noise[:1])
    assert sample._cache_size() == compiled


def test_the_embedding_has_no_part_in_it(folder, params):
    policy = Policy.from_folder(
        has_two_prompts(folder, "text_indicator"), 2.0, num_flow_steps=2, rows=ROWS
    )
    other = policy.with_params(params | {"cond_embed": -params["cond_embed"]})
    seen, noise = observations(2), noises(2)
    np.testing.assert_array_equal(policy.act(seen, noise), other.act(seen, noise))


def test_words_that_do_not_fit_are_refused(folder):
    policy = Policy.from_folder(has_two_prompts(folder, "text_indicator", prompt_length=16))
    with pytest.raises(InputError, match="does not fit the model's 16"):
        policy.act(observations(1), noises(1))


def test_broken_parameters_are_said_and_are_not_the_simulator_s_fault(folder):
    params = dict(folder.params)
    params["action_out_proj"] = {k: v * np.nan for k, v in params["action_out_proj"].items()}
    policy = Policy.from_folder(
        dataclasses.replace(folder, params=params), num_flow_steps=2, rows=ROWS
    )
    with pytest.raises(InputError, match="expected finite actions, got NaN: the parameters"):
        policy.act(observations(1), noises(1))


def test_a_pi05_reads_its_state_in_the_prompt_or_not_at_all():
    model = dataclasses.replace(CONFIG, pi05=True, prompt_length=120)
    edges = {"q01": np.full(8, -1.0), "q99": np.full(8, 1.0)}
    stats = NormStats(*(Stats(np.zeros(8), np.ones(8), **edges) for _ in range(2)))
    spec = PolicySpec(
        model, SCRIPTED_ROBOT, 3, tokenizer="bytes", quantile=True,
        branch_mode="text_indicator", state_in_prompt=True,
    )  # fmt: skip
    told = PolicyFolder(spec, random_params(config=model), stats)
    blind = dataclasses.replace(told, spec=dataclasses.replace(spec, state_in_prompt=False))
    seen = raw_obs()
    moved = dataclasses.replace(seen, state=-seen.state)
    for folder, reads in ((told, True), (blind, False)):
        policy = Policy.from_folder(folder, guidance=2.0, num_flow_steps=2, rows=ROWS)
        assert np.array_equal(policy.act([seen]), policy.act([moved])) != reads
