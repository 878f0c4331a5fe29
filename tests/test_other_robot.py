"""A robot that is not LIBERO's goes the whole way: demonstrations, SFT, RIPT, evaluation, video.

Three actions without limits, five values of state, one camera.
"""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import CONFIG, ript

from pi0_jax.data.action_space import AS_THE_ROBOT
from pi0_jax.data.demonstrations import Recorded
from pi0_jax.data.normalize import z_score
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.errors import InputError
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.policy.folder import init_policy, load_policy, save_policy
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.robot import Robot, numbered
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_policy
from pi0_jax.rollout.guidance import PLAIN
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session
from pi0_jax.training.fit import create_training, final_params, fit
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.supervised import flow_matching_loss

ROBOT = Robot("slider", ("top",), numbered("joint", 5), numbered("push", 3), control_hz=10.0)
# An action of 3 is a stride that a clip to [-1, 1] would cut to a third.
TASK = ScriptedTask(max_steps=8, image_size=16, tolerance=0.6, speed=0.1, robot=ROBOT)
STRIDES = DemonstratorConfig(speed=(2.0, 4.0), offset_sigma=0.1, action_noise=0.2)
# No pass back through the prefix: it is half of the time that an update takes to compile.
OPTIMIZER = OptimizerConfig(2e-3, warmup_steps=1, preset="expert_only")


@pytest.fixture(scope="module")
def demos(scripted_pool) -> Recorded:
    suite = Suite("slider", (TASK,), STRIDES)
    return Recorded(scripted_pool.map(suite.demonstrations(range(12))))


@pytest.fixture(scope="module")
def base(demos, tmp_path_factory):
    """Ten supervised updates, through a policy folder."""
    spec = PolicySpec(CONFIG, ROBOT, execute_steps=3, tokenizer="bytes")
    start = init_policy(spec, demos.stats(AS_THE_ROBOT, CONFIG.action_horizon, 0.0), seed=0)
    from pi0_jax.model.pi0 import Pi0

    loss = flow_matching_loss(Pi0(CONFIG), time_samples=1)
    state, update = create_training(start.params, loss, OPTIMIZER, 10)
    windows = demos.windows(start.transforms, CONFIG.action_horizon)
    rng = np.random.default_rng(0)
    losses = []
    state = fit(
        state,
        update,
        lambda step: windows.take(rng.integers(len(windows), size=8)),
        10,
        jax.random.key(0),
        log_every=1,
        log=lambda step, values: losses.append(values["loss"]),
    )
    assert losses[-1] < losses[0]
    path = tmp_path_factory.mktemp("slider") / "policy"
    trained = dataclasses.replace(start, params=jax.device_get(final_params(state)))
    save_policy(path, trained, {"made_by": "a test"})
    return load_policy(path)


def test_demonstrations_have_the_robots_widths_and_no_clip(demos, tmp_path):
    episode = demos.episodes[0]
    assert (episode.state.shape[1], episode.actions.shape[1]) == (5, 3)
    assert episode.images.shape[1:] == (1, 16, 16, 3)
    assert max(np.abs(e.actions).max() for e in demos.episodes) > 1.5
    assert any(e.success for e in demos.episodes)
    save_episodes(tmp_path / "e.npz", demos.episodes)
    assert load_episodes(tmp_path / "e.npz")[0].robot == ROBOT


def test_the_policy_folder_carries_the_robot(base):
    assert base.spec.robot == ROBOT
    check_robot(base.spec.robot, TASK.robot)
    with pytest.raises(InputError, match="actions of 3 dimensions, the task's 'scripted' of 7"):
        check_robot(base.spec.robot, ScriptedTask().robot)


def test_ript_and_evaluation(base, demos, scripted_pool, tmp_path):
    suite = Suite("slider", (TASK,), STRIDES)
    session = Session(RunFolder(tmp_path / "run", {}, resume=False), suite, scripted_pool, 0, 8)
    config = ript(iterations=1, groups={"dynamic_sampling": False})
    better = run_stored_ript(session, "ript", base, demos, config, OPTIMIZER, first_step=10)
    moved = better.params["action_out_proj"]["kernel"] - base.params["action_out_proj"]["kernel"]
    assert np.abs(moved).max() > 0
    evaluation = EvalConfig(episodes=2, first_seed=100, guidance=(1.0,), num_flow_steps=2, videos=0)
    evaluate_policy(session, evaluation, "rl", "ript", better, (PLAIN,))
    (row,) = session.run.rows
    assert (row.task, row.episodes) == ("scripted", 2)


def test_actions_are_in_the_robots_units(base, demos):
    """Loud statistics give loud actions: nothing cuts them."""
    from pi0_jax.episode import RawObs

    first = demos.episodes[0]
    seen = RawObs(first.images[0], first.state[0], first.prompt)
    noise = np.full((1, CONFIG.action_horizon, CONFIG.action_dim), 50.0, np.float32)
    actions = Policy.from_folder(base, num_flow_steps=1).act([seen], noise)
    assert actions.shape == (1, CONFIG.action_horizon, 3)
    assert np.abs(actions).max() > 10
    assert np.abs(z_score(actions, base.stats.actions)).max() > 10
