"""Chunks that continue what a robot executes meanwhile."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import CONFIG, policy_folder

from pi0_jax.errors import InputError
from pi0_jax.policy.ongoing import Ongoing, old_chunks
from pi0_jax.policy.policy import Policy
from pi0_jax.testing import raw_obs

H = CONFIG.action_horizon
SEEN = [raw_obs(seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def policy(params) -> Policy:
    return Policy.from_folder(policy_folder(params), num_flow_steps=3, rows=2)


@pytest.fixture(scope="module")
def before(policy):
    """The chunks that are being executed, float32[3, H, 7]."""
    return policy.act(SEEN, seed=1)


def test_a_frozen_prefix_is_kept_to_the_bit_and_the_rest_is_new(policy, before):
    ongoing = [Ongoing(chunk[1:], frozen=2) for chunk in before]
    found = policy.act(SEEN, seed=2, ongoing=ongoing)
    np.testing.assert_array_equal(found[:, :2], before[:, 1:3])
    assert (found[:, -1] != before[:, -1]).any()
    assert np.isfinite(found).all()


def test_the_network_itself_keeps_it(policy, before):
    """Not only the copy at the end: the other actions were drawn with these in sight."""
    ongoing = [Ongoing(chunk, frozen=H - 1) for chunk in before]
    old = old_chunks(ongoing, SEEN, policy.transforms, H)
    noise = np.random.default_rng(0).standard_normal(old.actions.shape, np.float32)
    for _, chunk in policy.calls(policy._sample, SEEN[:2], (noise, old)):
        np.testing.assert_allclose(chunk[:, : H - 1], old.actions[:2, : H - 1], atol=1e-5)


def test_it_continues_the_old_chunk(policy, before):
    """The overlap is nearer to the old chunk than that of a chunk that knows nothing of it."""
    ongoing = [Ongoing(chunk, frozen=1) for chunk in before]
    free, led = policy.act(SEEN, seed=2), policy.act(SEEN, seed=2, ongoing=ongoing)
    overlap = np.s_[:, 1 : H - 1]
    away = [np.abs(x - before)[overlap].mean() for x in (free, led)]
    assert away[1] < 0.8 * away[0]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_bits_do_not_depend_on_the_batch(policy, before, guidance):
    guided = replace(policy, guidance=guidance)
    ongoing = [Ongoing(chunk[:3], frozen=index) for index, chunk in enumerate(before)]
    seeds = [(0,), (1,), (2,)]
    together = guided.act_seeded(SEEN, seeds, ongoing)
    for index in range(3):
        one = slice(index, index + 1)
        alone = guided.act_seeded(SEEN[one], seeds[one], ongoing[one])
        np.testing.assert_array_equal(alone[0], together[index])


def test_a_robot_that_waits_has_the_program_it_had(policy):
    plain = policy.act(SEEN[:1], seed=3)
    np.testing.assert_array_equal(policy.act_seeded(SEEN[:1], [(3,)], None), plain)


ACTIONS = np.zeros((2, 7), np.float32)


@pytest.mark.parametrize(
    ("ongoing", "match"),
    [
        ([], "per observation, got 0 for 1"),
        ([Ongoing(np.zeros((H + 1, 7)), 0)], f"expected 1 to {H} actions of 7 numbers, got"),
        ([Ongoing(np.zeros((2, 6)), 0)], r"of 7 numbers, got float64\[2, 6\]"),
        ([Ongoing(np.zeros(7), 0)], r"got float64\[7\]"),
        ([Ongoing(np.zeros((2, 7), "U1"), 0)], "of 7 numbers, got <U1"),
        ([Ongoing(ACTIONS * np.nan, 0)], "expected finite actions"),
        ([Ongoing(ACTIONS, 3)], "expected 0 to 2 of them frozen"),
        ([Ongoing(ACTIONS, -1)], "got -1"),
        ([Ongoing(ACTIONS, 1.0)], "got 1.0"),  # pyright: ignore[reportArgumentType]
        ([Ongoing(np.zeros((H, 7)), H)], f"0 to {H - 1} of them"),
    ],
)
def test_what_does_not_fit(policy, ongoing, match):
    with pytest.raises(InputError, match=match):
        policy.act(SEEN[:1], ongoing=ongoing)
