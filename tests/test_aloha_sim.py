"""ALOHA in simulation: gym-aloha's bits and pixels, states by number, demonstrators, a run."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skips import needs_aloha, needs_dm_control, slow

from pi0_jax.env import suite as suites
from pi0_jax.env.aloha.tasks import ALOHA_SIM, Insertion, TransferCube
from pi0_jax.env.base import Job, run, start
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import make_suite
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError

CUBE, PEG = (kind(image_height=48, pictures="coarse") for kind in (TransferCube, Insertion))
CLEAN = DemonstratorConfig(offset_sigma=0.0, offset_sigma_z=0.0, render_every=400)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pools():
    """Two pools of one worker: two processes of our choice."""
    renderer = choose_renderer()
    with (
        SimulatorPool(1, 60, renderer=renderer) as one,
        SimulatorPool(1, 60, renderer=renderer) as two,
    ):
        yield one, two


def call(pool: SimulatorPool, task, function, *args):
    return pool.map([Job(task, function, args)])[0]


def wild_actions(seed: int, steps: int) -> np.ndarray:
    """Around the start, far enough that arms move, and beyond what grippers can do."""
    home = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.5] * 2)
    return (home + np.random.default_rng(seed).normal(0, 0.3, (steps, 14))).astype(np.float32)


def both_loops(simulator, name: str, seed: int, actions: np.ndarray):
    """Physical states [t, n], rewards and last pictures, by our control step and by gym-aloha's."""
    import gym_aloha  # noqa: F401 (registers the environments)
    import gymnasium
    import mujoco

    env = gymnasium.make(f"gym_aloha/{name}-v0", obs_type="pixels_agent_pos").unwrapped
    physics = env._env.physics
    kind = mujoco.mjtState.mjSTATE_INTEGRATION

    def state() -> np.ndarray:
        found = np.empty(mujoco.mj_stateSize(physics.model.ptr, kind))
        mujoco.mj_getState(physics.model.ptr, physics.data.ptr, found, kind)
        return found

    seen, _ = env.reset(seed=seed)
    first = simulator.start(seed)
    ours, theirs = [first.state.arrays["mujoco"]], [state()]
    for action in actions:
        simulator.step(action)
        ours.append(simulator.save().arrays["mujoco"])
        seen, *_ = env.step(action)
        theirs.append(state())
    proprio = simulator.proprio(), seen["agent_pos"].astype(np.float32)
    return (ours, theirs), (simulator.images()[0], seen["pixels"]["top"]), proprio


@needs_dm_control
@pytest.mark.parametrize(
    ("task", "name"),
    [(TransferCube(), "AlohaTransferCube"), (Insertion(), "AlohaInsertion")],
    ids=["transfer_cube", "insertion"],
)
def test_every_bit_and_pixel_is_gym_alohas(pools, task, name):
    (ours, theirs), (image, expected), proprio = call(
        pools[0], task, both_loops, name, 5, wild_actions(0, 6)
    )
    assert np.ptp(ours, axis=0)[1:7].max() > 0.05  # rad: the arms did move
    np.testing.assert_array_equal(ours, theirs)
    assert image.shape == (480, 640, 3)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(*proprio)


@needs_aloha
def test_an_episode_is_a_function_of_its_seed_wherever_it_runs(pools):
    one, two = pools
    actions = wild_actions(1, 12)
    first = call(one, CUBE, start, 3)
    assert first.state.hash == call(two, CUBE, start, 3).state.hash
    assert first.state.hash != call(two, CUBE, start, 4).state.hash
    whole = call(one, CUBE, run, first.state, actions)
    call(two, CUBE, run, call(two, CUBE, start, 8).state, wild_actions(2, 3))
    part = call(two, CUBE, run, first.state, actions[:5])
    rest = call(two, CUBE, run, part.state, actions[5:])
    assert rest.state.hash == whole.state.hash
    np.testing.assert_array_equal(rest.obs.images, whole.obs.images)
    np.testing.assert_array_equal(rest.obs.state, whole.obs.state)
    # Nothing is clipped: a gripper's goal of 1.4 is what the motor gets, and its own limits hold.
    np.testing.assert_array_equal(whole.actions, actions)
    assert first.obs.images.shape == (1, 48, 64, 3)
    # Far above 32 bits, where gym-aloha's own generator ends.
    far = [call(one, CUBE, start, seed).state.hash for seed in (10**15, 10**15 + 2**32)]
    assert far[0] != far[1]


@needs_aloha
@pytest.mark.parametrize("task", [CUBE, PEG], ids=lambda task: task.name)
def test_demonstrators_solve_their_task(pools, task):
    """Here four episodes without deliberate errors; the table of many is in docs/aloha.md."""
    jobs = [Job(task, demonstrate, (seed, CLEAN)) for seed in range(1000, 1004)]
    episodes = pools[0].map(jobs)
    assert sum(episode.success for episode in episodes) >= 3
    assert all(len(episode) < 400 for episode in episodes if episode.success)
    again = call(pools[1], task, demonstrate, 1001, CLEAN)
    np.testing.assert_array_equal(again.actions, episodes[1].actions)
    np.testing.assert_array_equal(again.state, episodes[1].state)


@needs_aloha
def test_both_tasks_are_one_suite_with_one_robot():
    both = make_suite("aloha_transfer_cube+aloha_insertion", {"image_height": 48})
    assert [task.instruction for task in both.tasks] == [
        "Transfer cube", "Insert the peg into the socket."
    ]  # fmt: skip
    assert both.robot == ALOHA_SIM
    assert (len(both.robot.state), len(both.robot.actions), len(both.robot.cameras)) == (14, 14, 1)
    assert all(d.low is None and d.high is None for d in both.robot.actions)


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(InputError, match="pictures must be"):
        TransferCube(pictures="nice")
    with pytest.raises(InputError, match="instruction must be the words"):
        TransferCube(instruction=" ")
    with pytest.raises(InputError, match=r"task.image_height must be .* got 8"):
        dataclasses.replace(CUBE, image_height=8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs gym-aloha: pip install"):
        suites.make_suite("aloha_insertion", {})


SMALL = (
    "--config.pool.workers=1",
    "--config.task.max_steps=24",
    "--config.demonstrations.episodes=2",
    "--config.sft.steps=2",
    "--config.sft.batch_size=4",
    "--config.sft.optimizer.preset=expert_only",
    "--config.rl.optimizer.preset=expert_only",
    "--config.rl.iterations=1",
    "--config.rl.updates_per_iteration=2",
    "--config.rl.batch_size=4",
    "--config.rl.groups.group_size=2",
    "--config.rl.groups.groups_per_iteration=1",
    "--config.rl.groups.max_groups=1",
    # No group succeeds within half a second; here all of them teach.
    "--config.rl.groups.dynamic_sampling=False",
    "--config.rl.advantage.negatives=signed",
    "--config.rl.advantage.clipping=none",
    "--config.rl.demo_fraction=0.5",
    "--config.eval.episodes=2",
    "--config.eval.num_flow_steps=1",
    "--config.eval.videos=1",
    "--config.eval.guidance=(1.0,)",
)


@needs_aloha
@slow
def test_imitation_then_ript_then_evaluation(tmp_path):
    """What `configs/aloha.py:preset=tiny` runs, in small, with fourteen joints and no limits."""
    config = ("--config=configs/aloha.py:task=transfer_cube,preset=tiny", *SMALL)

    def finish(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr

    finish("train.py", f"--workdir={tmp_path / 'run'}", *config)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["base", "continued_sft", "ript"]
    policy = json.loads((tmp_path / "run" / "policy" / "config.json").read_text())
    assert policy["robot"]["name"] == "aloha_sim"
    assert policy["model"]["action_dim"] == 14
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["phase"] for line in lines} >= {"sft", "rl"}
    finish("eval.py", f"--checkpoint={tmp_path / 'run' / 'policy'}",
           f"--workdir={tmp_path / 'eval'}", *config)  # fmt: skip
    found = json.loads((tmp_path / "eval" / "results.json").read_text())["rows"]
    assert found[0]["successes"] == rows[-1]["successes"]
