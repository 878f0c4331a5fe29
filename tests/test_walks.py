"""The two walks of docs/design.md: an observation to the method, and an episode to the gradient."""

import jax
import numpy as np
from loops import LONGEST, OPTIMIZER
from tiny import CONFIG, MODEL, RIPT, policy_folder

from pi0_jax.data.demonstrations import InMemory
from pi0_jax.data.windows import count
from pi0_jax.env.base import Job, run, start
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.model import flow
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.init_states import InitStateSchedule
from pi0_jax.rl.iteration import collect_groups, draw_batch, weighted_windows
from pi0_jax.training.fit import create_training, fit

TASK = ScriptedTask(max_steps=8, image_size=16, tolerance=0.6, speed=0.3)
NOISE = np.random.default_rng(0).standard_normal((1, 4, 8), np.float32)


def test_an_observation_to_the_arm(scripted_pool, params):
    """Stop by stop, and the policy in one call gives the same."""
    folder = policy_folder(params)
    # simulator -> RawObs
    first = scripted_pool.map([Job(TASK, start, (0,))])[0]
    assert first.obs.images.shape == (2, 16, 16, 3)
    # transforms -> Observation
    transforms = folder.transforms
    obs = jax.device_put(transforms.observe([first.obs]))
    # encode_prefix -> PrefixCache -> flow.sample
    cache = jax.jit(MODEL.encode_prefix)(params, obs)

    @jax.jit
    def velocity(x_t, time):
        positive = np.ones(x_t.shape[:2], int)
        return MODEL.velocity(params, cache, obs.state, x_t, time, positive)

    chunk = flow.euler(velocity, jax.device_put(NOISE[:, None]), 3)[:, 0]
    # inverse transforms -> actions
    actions = transforms.robot_actions(jax.device_get(chunk), first.obs.state[None])
    actions = np.clip(actions, -1, 1)
    policy = Policy.from_folder(folder, guidance=1.0, num_flow_steps=3)
    np.testing.assert_allclose(policy.act([first.obs], NOISE), actions, atol=1e-5)
    # the chunk's first steps -> the next job
    after = scripted_pool.map([Job(TASK, run, (first.state, actions[0, :3]))])[0]
    assert len(after.actions) == 3 or after.success
    np.testing.assert_allclose(after.actions, actions[0, : len(after.actions)], atol=1e-6)


def test_an_episode_to_the_gradient(scripted_pool, params):
    """Initial states -> rollouts -> advantages -> windows -> update -> the policy acts."""
    folder = policy_folder(params)
    policy = Policy.from_folder(folder)
    collected, init_states = collect_groups(
        policy, scripted_pool, [TASK], InitStateSchedule(0), RIPT, 3, optimizer_step=0
    )
    assert collected.groups
    assert init_states.drawn == collected.tried
    windows = weighted_windows(
        collected.groups, RIPT, folder.transforms, CONFIG.action_horizon, [TASK.name]
    ).batch
    looks = [len(e.images) for group in collected.groups for e in group.episodes]
    assert count(windows) == sum(looks)
    assert 0 < (windows.weight > 0).mean() < 1

    loss = RIPT.chosen.loss(MODEL, RIPT.time_samples, RIPT.branch_mode)
    # Rate and schedule of the loops' tests, whose compiled update this is.
    state, update = create_training(folder.params, loss, OPTIMIZER, LONGEST)
    error = jax.jit(lambda params: loss(params, windows, jax.random.key(1))[0])
    losses = [error(state.params)]
    state = fit(
        state,
        update,
        lambda step: draw_batch([windows], InMemory(windows), RIPT, np.random.default_rng(step)),
        30,
        jax.random.key(0),
        1,
        lambda step, values: None,
    )
    losses.append(error(state.params))
    assert losses[1] < 0.99 * losses[0]
    seed = collected.episodes[0].seed
    first = scripted_pool.map([Job(TASK, start, (seed,))])[0].obs
    before, after = (p.act([first], NOISE) for p in (policy, policy.with_params(state.params)))
    assert np.abs(after - before).max() > 1e-3
