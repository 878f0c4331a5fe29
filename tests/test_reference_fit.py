"""A base fits a policy if it reads and predicts the same; equal values become one array."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIG, policy_folder

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.reference import shares_prefix
from pi0_jax.policy.reference_fit import check_reference, with_reference


@pytest.fixture(scope="module")
def policy(params) -> PolicyFolder:
    return policy_folder(params)


def changed(folder: PolicyFolder, **spec: object) -> PolicyFolder:
    return dataclasses.replace(folder, spec=dataclasses.replace(folder.spec, **spec))


def test_equal_leaves_become_the_policys_own(policy):
    copied = jax.tree.map(np.array, policy.params)
    copied["cond_embed"] = copied["cond_embed"] + 1
    # Equal values in another dtype are no equal leaf.
    copied["state_proj"] = {n: x.astype(np.float16) for n, x in copied["state_proj"].items()}
    found = with_reference(policy, dataclasses.replace(policy, params=copied))
    assert found.reference["action_out_proj"]["bias"] is policy.params["action_out_proj"]["bias"]
    assert found.reference["cond_embed"] is copied["cond_embed"]
    assert found.reference["state_proj"]["bias"] is copied["state_proj"]["bias"]
    assert jax.tree.structure(found.reference) == jax.tree.structure(policy.params)
    assert found.params is policy.params


def test_a_frozen_leaf_that_the_policy_rounded_is_the_bases(policy):
    """hardware.frozen_dtype=bfloat16: the VLM is one, held once and run once."""
    rounded = jax.tree.map(lambda x: np.asarray(jnp.asarray(x, jnp.bfloat16)), policy.params)
    other = {n: x for n, x in policy.params.items() if n != "action_out_proj"}
    other["action_out_proj"] = jax.tree.map(lambda x: x + 0.1, policy.params["action_out_proj"])
    mine = dataclasses.replace(policy, params=rounded)
    found = with_reference(mine, dataclasses.replace(policy, params=other)).reference
    assert shares_prefix(rounded, found)
    assert found["action_out_proj"]["bias"] is other["action_out_proj"]["bias"]
    # The other way round the policy knows more than its base.
    found = with_reference(policy, mine).reference
    assert found["action_in_proj"]["kernel"] is rounded["action_in_proj"]["kernel"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_value_of_a_leaf_is_compared(policy, dtype):
    """Also one behind the first half million, which are compared at a time."""
    long = jnp.arange(2**19 + 2, dtype=dtype)
    trees = [policy.params | {"long": np.asarray(leaf)} for leaf in (long, long.at[-1].add(2**18))]
    for other in (0, 1):
        mine, theirs = (dataclasses.replace(policy, params=trees[n]) for n in (0, other))
        theirs = dataclasses.replace(theirs, params=jax.tree.map(np.array, theirs.params))
        found = with_reference(mine, theirs).reference["long"]
        assert (found is trees[0]["long"]) == (other == 0)


def test_what_does_not_decide_what_is_predicted_may_differ(policy):
    check_reference(policy, changed(policy, execute_steps=1, asset_id="another"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": dataclasses.replace(CONFIG, depth=3)}, "model.depth is 3, the policy's 2"),
        ({"tokenizer": "paligemma"}, "tokenizer is 'paligemma', the policy's 'bytes'"),
        ({"quantile": True}, "quantile is True, the policy's False"),
        ({"action_space": ActionSpace((True,))}, r"action_space.delta_mask is \(True,\), the"),
        ({"branch_mode": "text_indicator"}, "branch_mode is 'text_indicator', the policy's 'emb"),
        ({"state_in_prompt": True}, "state_in_prompt is True"),
    ],
)
def test_another_kind_of_policy(policy, spec, message):
    with pytest.raises(InputError, match=f"the reference does not fit the policy: {message}"):
        with_reference(policy, changed(policy, **spec))


def test_another_robot(policy):
    robot = policy.spec.robot
    for change, message in (
        ({"name": "other"}, "robot.name is 'other', the policy's 'scripted'"),
        ({"actions": robot.actions[:5]}, "robot.actions is another than the policy's"),
    ):
        other = changed(policy, robot=dataclasses.replace(robot, **change))
        with pytest.raises(InputError, match=message):
            check_reference(policy, other)


def test_other_statistics(policy):
    stats = policy.stats
    moved = NormStats(stats.state, Stats(stats.actions.mean + 0.1, stats.actions.std))
    with pytest.raises(InputError, match=r"statistics of actions.mean is another than"):
        check_reference(policy, dataclasses.replace(policy, stats=moved))
    more = NormStats(dataclasses.replace(stats.state, q01=np.zeros(8)), stats.actions)
    with pytest.raises(InputError, match=r"statistics of state.q01 is another than"):
        check_reference(policy, dataclasses.replace(policy, stats=more))


def test_a_base_without_branches_can_be_told_in_any_mode(policy, blind_params):
    told = changed(policy, branch_mode="text_indicator")
    check_reference(told, policy_folder(blind_params))
    # One that was trained with the embedding would lose it.
    with pytest.raises(InputError, match="branch_mode is 'embedding', the policy's 'text_"):
        check_reference(told, policy)
