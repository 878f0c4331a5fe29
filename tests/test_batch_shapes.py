"""Shapes of a policy's batches follow its robot and its branches."""

import dataclasses

from tiny import CONFIG, policy_folder

from pi0_jax.run.batch_shapes import batch_shapes


def test_they_follow_from_the_policy():
    spec = policy_folder({}).spec
    found = batch_shapes(spec, 6)
    cameras, actions = len(spec.robot.cameras), len(spec.robot.actions)
    assert found.obs.images.shape[:2] == (6, cameras)
    assert found.actions.shape == (6, CONFIG.action_horizon, CONFIG.action_dim)
    assert (found.uncond_prompt, found.chain) == (None, None)
    two = batch_shapes(dataclasses.replace(spec, branch_mode="text_indicator"), 6, chains=True)
    assert two.uncond_prompt.shape == two.obs.prompt.shape
    assert two.chain.shape == (6, 11, CONFIG.action_horizon, CONFIG.action_dim)
    assert two.chain_log_prob.shape == (6, 10, CONFIG.action_horizon, actions)
