"""Rollouts of hand-written policies: an episode depends on state and noise, on no one else."""

import dataclasses
import os
import signal
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CONFIG, policy_folder

from pi0_jax.env.base import ChunkResult, Job, start
from pi0_jax.env.scripted import SCRIPTED_ROBOT, ScriptedSimulator, ScriptedTask
from pi0_jax.env.workers import seat as seat_module
from pi0_jax.env.workers.in_process import InProcess
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.episode import Episode, RawObs
from pi0_jax.errors import InputError
from pi0_jax.policy.policy import Policy
from pi0_jax.rollout import collect as rollout
from pi0_jax.rollout.collect import (
    Plan,
    Start,
    _Live,
    collect,
    groups_of,
    plan_groups,
    plan_states,
    replay,
)

CHUNK = (CONFIG.action_horizon, CONFIG.action_dim)
TASK = ScriptedTask(max_steps=10, image_size=16, tolerance=0.4, speed=0.2)


@dataclass
class NoisePolicy:
    """Acts by its noise alone, and keeps a diary of what it was asked."""

    asked: list = field(default_factory=list)
    model = SimpleNamespace(config=CONFIG)
    robot = SCRIPTED_ROBOT

    def act(self, observations, noise):
        assert len(observations) == len(noise)
        self.asked += [(obs.state.copy(), n) for obs, n in zip(observations, noise, strict=True)]
        return np.clip(noise[..., :7], -1, 1)


@dataclass
class RightPolicy:
    """Always moves to the right at full speed."""

    model = SimpleNamespace(config=CONFIG)
    robot = SCRIPTED_ROBOT

    def act(self, observations, noise):
        chunk = np.zeros((len(observations), CONFIG.action_horizon, 7), np.float32)
        chunk[..., 0] = 1.0
        return chunk


def states(number: int = 4) -> list:
    return [(TASK, seed) for seed in range(number)]


def assert_same(a: Episode, b: Episode) -> None:
    for name in (entry.name for entry in dataclasses.fields(Episode)):
        np.testing.assert_equal(getattr(a, name), getattr(b, name), name)


@pytest.fixture(scope="module")
def episodes(scripted_pool):
    plans = plan_states(scripted_pool, states(), rollouts=3)
    return collect(NoisePolicy(), scripted_pool, plans, execute_steps=3, optimizer_step=7)


def test_an_episode_is_what_happened(episodes):
    """Executed again by hand, step by step."""
    assert len(episodes) == 12
    for episode in episodes:
        simulator = ScriptedSimulator(TASK)
        boundary = simulator.start(episode.seed)
        assert episode.init_hash == boundary.state.hash
        for step, action in enumerate(episode.actions):
            if episode.chunk_start[step]:
                look = episode.image_steps.tolist().index(step)
                np.testing.assert_array_equal(episode.images[look], simulator.images())
            np.testing.assert_array_equal(episode.state[step], simulator.proprio())
            success = simulator.step(action)
            assert success == (episode.success and step == len(episode) - 1)
        assert episode.success or len(episode) == TASK.max_steps
        assert (episode.task, episode.prompt) == ("scripted", TASK.instruction)
        assert (episode.optimizer_step, episode.error) == (7, None)
    assert {episode.success for episode in episodes} == {True, False}


def test_looks_are_at_chunk_starts(episodes):
    """Every 3 steps; the last chunk of a failure has one step (10 = 3 + 3 + 3 + 1)."""
    for episode in episodes:
        assert episode.image_steps.tolist() == list(range(0, len(episode), 3))
        assert np.flatnonzero(episode.chunk_start).tolist() == episode.image_steps.tolist()


def test_episodes_keep_the_order_of_their_plans(episodes):
    assert [episode.seed for episode in episodes] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_does_not_matter(episodes, workers):
    with SimulatorPool(workers, 20) as pool:
        plans = plan_states(pool, states(), rollouts=3)
        for a, b in zip(collect(NoisePolicy(), pool, plans, 3, 7), episodes, strict=True):
            assert_same(a, b)


def test_the_company_does_not_matter(episodes, scripted_pool):
    plans = plan_states(scripted_pool, states(), rollouts=3)
    for index in (0, 5, 11):
        (alone,) = collect(NoisePolicy(), scripted_pool, plans[index : index + 1], 3, 7)
        assert_same(alone, episodes[index])
    turned = collect(NoisePolicy(), scripted_pool, plans[::-1], 3, 7)
    for a, b in zip(turned[::-1], episodes, strict=True):
        assert_same(a, b)


def test_noise_belongs_to_chunk_rollout_state_and_step(scripted_pool):
    """No two draws are equal, and a second run draws the same."""

    def drawn(optimizer_step: int) -> set[bytes]:
        policy = NoisePolicy()
        plans = plan_states(scripted_pool, states(2), rollouts=2)
        collect(policy, scripted_pool, plans, 3, optimizer_step)
        keys = {noise.tobytes() for _, noise in policy.asked}
        assert len(keys) == len(policy.asked) >= 4
        shape = (CONFIG.action_horizon, CONFIG.action_dim)
        assert {noise.shape for _, noise in policy.asked} == {shape}
        return keys

    assert drawn(0) == drawn(0)
    assert not drawn(0) & drawn(1)


def test_rollouts_of_a_state_start_from_copies(episodes):
    groups = groups_of(episodes, 3)
    assert [len(group.episodes) for group in groups] == [3] * 4
    for group in groups:
        a, b, c = group.episodes
        np.testing.assert_array_equal(a.images[0], b.images[0])
        np.testing.assert_array_equal(a.state[0], c.state[0])
        assert not np.array_equal(a.actions[0], b.actions[0])


def test_a_group_may_start_from_a_state_each(scripted_pool):
    groups = [(Start(TASK, 5), Start(TASK, 6), Start(TASK, 7)), (Start(TASK, 8),)]
    plans = plan_groups(scripted_pool, groups, 3)
    assert [plan.seed for plan in plans] == [5, 6, 7, 8, 8, 8]
    assert [plan.rollout for plan in plans] == [0, 1, 2, 0, 1, 2]
    done = collect(NoisePolicy(), scripted_pool, plans, 3, 7)
    mixed, same = groups_of(done, 3)
    assert len({episode.init_hash for episode in mixed.episodes}) == 3
    assert len({episode.init_hash for episode in same.episodes}) == 1


def test_another_visit_is_another_noise(scripted_pool, episodes):
    """Visit 0 draws what a state without a count of visits draws."""
    first, again = (
        collect(
            NoisePolicy(),
            scripted_pool,
            plan_groups(scripted_pool, [(Start(TASK, 0, visit),)], 3),
            3,
            7,
        )
        for visit in (0, 1)
    )
    for a, b in zip(first, episodes[:3], strict=True):
        assert_same(a, b)
    assert len({episode.actions.tobytes() for episode in (*first, *again)}) == 6


def test_groups_are_told_by_their_place(episodes):
    """Not by their state, which may come twice in a step."""
    broken = dataclasses.replace(episodes[1], error="broken")
    groups = groups_of([episodes[0], broken, *episodes[:2]], 2)
    assert [len(group.episodes) for group in groups] == [1, 2]
    assert groups_of([], 3) == []


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7])
def test_looks_between_chunks_change_nothing_else(scripted_pool, episodes, every):
    """Chunks of 3, looks before every n-th step of the episode, not of the chunk."""
    plans = plan_states(scripted_pool, states(), rollouts=3)
    looking = collect(NoisePolicy(), scripted_pool, plans, 3, 7, look_every=every)
    for seen, plain in zip(looking, episodes, strict=True):
        steps = set(range(0, len(plain), every)) | set(plain.image_steps.tolist())
        assert seen.image_steps.tolist() == sorted(steps)
        np.testing.assert_array_equal(seen.actions, plain.actions)
        np.testing.assert_array_equal(seen.state, plain.state)
        np.testing.assert_array_equal(seen.chunk_start, plain.chunk_start)
        simulator = ScriptedSimulator(TASK)
        simulator.start(seen.seed)
        for step, action in enumerate(seen.actions):
            if step in steps:
                look = seen.image_steps.tolist().index(step)
                np.testing.assert_array_equal(seen.images[look], simulator.images())
            simulator.step(action)


def test_replay_is_the_episode(episodes, scripted_pool):
    films = replay(scripted_pool, [(TASK, episode) for episode in episodes], frame_every=1)
    for episode, frames in zip(episodes, films, strict=True):
        assert frames.shape == (len(episode), 16, 16, 3)
        for look, step in enumerate(episode.image_steps[1:], start=1):
            np.testing.assert_array_equal(frames[step - 1], episode.images[look, 0])


def test_a_replay_in_pieces_is_the_same(episodes, scripted_pool, monkeypatch):
    """Episodes of up to ten steps in pieces of three."""
    plays = [(TASK, episode) for episode in episodes]
    whole = replay(scripted_pool, plays, frame_every=1)
    monkeypatch.setattr(rollout, "_REPLAY_FRAMES", 3)
    for a, b in zip(whole, replay(scripted_pool, plays, frame_every=1), strict=True):
        np.testing.assert_array_equal(a, b)


def test_images_may_be_left_out(episodes, scripted_pool):
    """Nothing else changes."""
    plans = plan_states(scripted_pool, states(), rollouts=3)
    found = collect(NoisePolicy(), scripted_pool, plans, 3, 7, keep_images=False)
    for a, b in zip(found, episodes, strict=True):
        assert a.images.size == 0
        assert_same(dataclasses.replace(a, images=b.images, image_steps=b.image_steps), b)


def test_nothing_planned(scripted_pool):
    assert plan_states(scripted_pool, []) == []
    assert collect(NoisePolicy(), scripted_pool, [], 3, 0) == []


def test_progress_counts_up(scripted_pool):
    seen = []
    plans = plan_states(scripted_pool, states())
    done = collect(NoisePolicy(), scripted_pool, plans, 3, 0, lambda ended: seen.append(len(ended)))
    assert seen == [1, 2, 3, 4]
    assert len(done) == 4


WALL = 0.3


@dataclass(frozen=True)
class WalledTask(ScriptedTask):
    """Its simulator fails wherever a chunk would begin behind the wall."""

    def build(self) -> "WalledSimulator":
        return WalledSimulator(self)


class WalledSimulator(ScriptedSimulator):
    """What `WalledTask` builds."""

    def run(self, state, actions, *options):
        if state.arrays["hand"][0] > WALL:
            raise RuntimeError("the method hit the wall")
        return super().run(state, actions, *options)


def test_errors_are_neither_success_nor_failure():
    """Moving right by 0.2 a step, 3 steps a chunk; the target cannot be reached."""
    task = WalledTask(max_steps=6, image_size=16, tolerance=0.0, speed=0.2)
    with SimulatorPool(1, 20, retries=0) as pool:
        plans = plan_states(pool, [(task, seed) for seed in range(6)])
        done = collect(RightPolicy(), pool, plans, 3, 0)
    kinds = []
    for plan, episode in zip(plans, done, strict=True):
        x = float(plan.first.state.arrays["hand"][0])
        looks = 0 if x > WALL else 1 if min(x + 0.6, 1) > WALL else 2
        kinds.append(looks)
        assert not episode.success
        assert (episode.error is None) == (looks == 2)
        assert looks == 2 or "the method hit the wall" in episode.error
        assert len(episode) == 3 * looks
        # A look whose chunk was lost is left out: pictures and steps fit.
        assert len(episode.images) == len(episode.image_steps) == looks
        assert episode.images.shape[1:] == (2, 16, 16, 3)
    assert set(kinds) == {0, 1, 2}
    assert sum(len(group.episodes) for group in groups_of(done, 3)) == kinds.count(2)


@dataclass
class Sabotage(NoisePolicy):
    """Acts by its noise, and at the third call sends a signal to a worker."""

    pool: SimulatorPool = None
    sent: int = signal.SIGKILL
    calls: int = 0

    def act(self, observations, noise):
        self.calls += 1
        if self.calls == 3:
            os.kill(self.pool._seats[0].worker.pid, self.sent)
        return super().act(observations, noise)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_a_worker_lost_in_the_middle_is_invisible(episodes, fault, monkeypatch):
    """Kill -9, and a worker that answers no more: its jobs run again, and no episode differs."""
    # The worker may be stopped at its first job, which has the time of a build.
    monkeypatch.setattr(seat_module, "BUILD_TIMEOUT_S", 2.0)
    with SimulatorPool(2, timeout_s=2.0) as pool:
        plans = plan_states(pool, states(), rollouts=3)
        while not all(seat.ready for seat in pool._seats):
            pool.map([Job(TASK, start, (0,))])  # a worker that still starts would get no job
        before = pool._seats[0].worker.pid
        found = collect(policy := Sabotage(pool=pool, sent=fault), pool, plans, 3, 7)
        assert policy.calls > 3
        assert pool._seats[0].worker.pid != before
    for a, b in zip(found, episodes, strict=True):
        assert_same(a, b)


def test_any_engine_that_maps_functions_gives_the_same_episodes(episodes):
    engine = InProcess()
    plans = plan_states(engine, states(), rollouts=3)
    for a, b in zip(collect(NoisePolicy(), engine, plans, 3, 7), episodes, strict=True):
        assert_same(a, b)


def test_simulators_work_while_the_policy_thinks(episodes, scripted_pool, monkeypatch):
    """Chunks come back during a call, and no episode differs."""
    thinking, came_back = threading.Event(), threading.Event()
    policy, gather = NoisePolicy(), scripted_pool.gather

    def watched(timeout_s=None):
        done = gather(timeout_s)
        if done and thinking.is_set():
            came_back.set()
        return done

    def act(observations, noise):
        thinking.set()
        came_back.wait(2)  # in vain where no simulator has work, as in the first call
        chunks = policy.act(observations, noise)
        thinking.clear()
        return chunks

    monkeypatch.setattr(scripted_pool, "gather", watched)
    plans = plan_states(scripted_pool, states(), rollouts=3)
    doubles = SimpleNamespace(model=policy.model, robot=SCRIPTED_ROBOT, act=act)
    for a, b in zip(collect(doubles, scripted_pool, plans, 3, 7), episodes, strict=True):
        assert_same(a, b)
    assert came_back.is_set()


def test_a_policy_that_breaks_ends_the_rollout(scripted_pool):
    def broken(observations, noise):
        raise InputError("expected finite actions")

    plans = plan_states(scripted_pool, states(1))
    doubles = SimpleNamespace(model=NoisePolicy.model, robot=SCRIPTED_ROBOT, act=broken)
    with pytest.raises(InputError, match="expected finite actions"):
        collect(doubles, scripted_pool, plans, 3, 7)


def test_a_plan_may_be_made_by_hand(episodes, scripted_pool):
    first = scripted_pool.map([Job(TASK, start, (2,))])[0]
    (done,) = collect(NoisePolicy(), scripted_pool, [Plan(TASK, 2, first, rollout=1)], 3, 7)
    assert_same(done, episodes[7])


@pytest.mark.parametrize("steps", [0, 99])
def test_steps_that_no_chunk_has_are_refused_before_anything_runs(steps):
    with pytest.raises(InputError, match="between 1 and the action horizon"):
        collect(NoisePolicy(), None, [], steps)


def test_a_task_of_another_robot_is_refused_before_anything_runs():
    other = dataclasses.replace(SCRIPTED_ROBOT, actions=SCRIPTED_ROBOT.actions[:1])
    plan = SimpleNamespace(task=SimpleNamespace(name="other", robot=other))
    with pytest.raises(InputError, match="choose a policy of this robot"):
        collect(NoisePolicy(), None, [plan], 1)


@pytest.fixture(scope="module")
def flow_policy(params) -> Policy:
    return Policy.from_folder(policy_folder(params), num_flow_steps=2, rows=2)


def test_chains_belong_to_their_chunks_and_repeat(flow_policy, scripted_pool):
    """Every call's chain: its noise is that of its key, its end is what was executed."""
    plans = plan_states(scripted_pool, states(2), rollouts=2)
    found = collect(flow_policy, scripted_pool, plans, 3, 7, noise_level=0.5)
    for plan, episode in zip(plans, found, strict=True):
        calls = np.flatnonzero(episode.chunk_start)
        assert episode.chain.shape == (len(calls), 3, *CHUNK)
        assert episode.chain_log_prob.shape == (len(calls), 2, CHUNK[0], 7)
        for call, chain in zip(calls, episode.chain, strict=True):
            rng = np.random.default_rng((plan.seed, plan.rollout, 7, int(call)))
            np.testing.assert_array_equal(chain[0], rng.standard_normal(CHUNK, np.float32))
            seen = RawObs(episode.images[0], episode.state[call], episode.prompt)
            (chunk,) = flow_policy.robot_actions(chain[-1:], [seen])
            executed = episode.actions[call : call + 3]
            np.testing.assert_array_equal(executed, chunk[: len(executed)])
    (alone,) = collect(flow_policy, scripted_pool, plans[3:], 3, 7, noise_level=0.5)
    assert_same(alone, found[3])
    (other,) = collect(flow_policy, scripted_pool, plans[3:], 3, 8, noise_level=0.5)
    assert np.abs(other.chain[0] - alone.chain[0]).max() > 0.1


def test_the_plain_flow_leaves_no_chain(episodes):
    assert all(episode.chain is episode.chain_log_prob is None for episode in episodes)


def test_a_chain_whose_chunk_failed_is_left_out(flow_policy):
    """The simulator raises at the second call: one chain of two remains; of the first: none."""
    live = _Live(Plan(TASK, 0, first_result()), first_result())
    for _ in range(2):
        live.look()
        live.chains.append((np.zeros((3, *CHUNK)), np.zeros((2, 4, 7))))
        if not live.steps:
            assert live.episode(0, "lost").chain is None
            live.advance(run_three())
    broken = live.episode(0, "lost")
    assert (len(broken), len(broken.chain), len(broken.chain_log_prob)) == (3, 1, 1)


def first_result() -> ChunkResult:
    return ScriptedSimulator(TASK).start(0)


def run_three() -> ChunkResult:
    simulator = ScriptedSimulator(TASK)
    state = simulator.start(0).state
    return simulator.run(state, np.zeros((3, 7), np.float32))
