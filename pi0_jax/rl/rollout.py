"""Policy x simulator pool x a finite plan -> episodes.

The policy is asked in batches, for whatever episodes are at a chunk boundary; meanwhile the pool
works on the others. An episode depends on its parameters, initial state and noise alone, never on
which worker ran which chunk, or on who else was in the batch.

Axis letters: t control step, H action horizon, d padded action dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pi0_jax.env.base import Boundary, Job, Task, run, start
from pi0_jax.env.pool import Done, SimulatorPool
from pi0_jax.episode import Episode, Group
from pi0_jax.policy import Policy

Report = Callable[[Sequence[Episode]], None]
"""Called with all episodes that have ended so far, in the order in which they ended."""

_REPLAY_FRAMES = 40  # of a piece of a replay; 8 s of LIBERO's pictures in software


@dataclass(frozen=True)
class Plan:
    """One episode to be run.

    Attributes:
        task: what to do.
        seed: of the initial state.
        first: the initial state and the first observation; None where the simulator could not
            give them.
        rollout: which of the K rollouts from that state; it changes the noise only.
        error: why there is no first observation, or None.
    """

    task: Task
    seed: int
    first: Boundary | None
    rollout: int = 0
    error: str | None = None


@dataclass
class _Live:
    """An episode in progress: everything the boundaries have told so far."""

    plan: Plan
    at: Boundary | None
    keep_images: bool = True
    images: list[np.ndarray] = field(default_factory=list)
    image_steps: list[int] = field(default_factory=list)
    parts: list[Boundary] = field(default_factory=list)
    steps: int = 0

    def look(self) -> None:
        """Keeps the observation that the policy is about to see."""
        assert self.at is not None and self.at.obs is not None
        if self.keep_images:
            self.images.append(self.at.obs.images)
        self.image_steps.append(self.steps)

    def advance(self, boundary: Boundary) -> bool:
        """Takes the end of a chunk; True while the episode goes on."""
        self.at = boundary
        self.parts.append(replace(boundary, obs=None))
        self.steps += len(boundary.actions)
        return not boundary.success and self.steps < self.plan.task.max_steps

    def episode(self, policy_step: int, error: str | None) -> Episode:
        """The finished episode. A look whose chunk was lost to an error is left out."""
        looks = len(self.parts)
        image_steps = np.array(self.image_steps[:looks], np.int32)
        images = np.stack(self.images)[:looks] if self.images else np.zeros((0,), np.uint8)
        return Episode(
            task=self.plan.task.name,
            prompt=self.plan.task.instruction,
            init_hash=self.plan.first.state.hash if self.plan.first else "",
            seed=self.plan.seed,
            images=images,
            image_steps=image_steps[: len(images)],
            state=_join([part.proprio for part in self.parts], 8),
            actions=_join([part.actions for part in self.parts], 7),
            chunk_start=np.isin(np.arange(self.steps), image_steps),
            success=error is None and self.at is not None and self.at.success,
            policy_step=policy_step,
            error=error,
        )


def plan_states(
    pool: SimulatorPool, states: Sequence[tuple[Task, int]], rollouts: int = 1
) -> list[Plan]:
    """Starts every (task, seed) once and plans `rollouts` episodes from copies of its state."""
    firsts = pool.run_all([Job(task, start, (seed,)) for task, seed in states])
    return [
        Plan(task, seed, first.result, rollout, first.error)
        for (task, seed), first in zip(states, firsts, strict=True)
        for rollout in range(rollouts)
    ]


def collect(
    policy: Policy,
    pool: SimulatorPool,
    plans: Sequence[Plan],
    execute_steps: int,
    policy_step: int,
    report: Report = lambda episodes: None,
    keep_images: bool = True,
) -> list[Episode]:
    """Runs every plan to its end.

    Args:
        policy: what acts.
        pool: where the simulators are.
        plans: episodes to run.
        execute_steps: actions executed of each chunk.
        policy_step: recorded with the episodes, and part of their noise.
        report: for a progress line.
        keep_images: store what the policy saw; without, `images` and `image_steps` are empty.

    Returns:
        One episode a plan, in their order. A plan whose simulator failed for good gives an
        episode with `error` set, which is neither success nor failure of the policy.
    """
    live = [_Live(plan, plan.first, keep_images) for plan in plans]
    unstarted = [i for i, plan in enumerate(plans) if plan.first is None]
    ended = {i: live[i].episode(policy_step, plans[i].error) for i in unstarted}
    ready = [i for i in range(len(live)) if i not in ended]
    running: dict[int, int] = {}  # ticket -> index into live
    while ready or running:
        if ready and pool.backlog < pool.workers:
            running |= _act(policy, pool, live, ready, execute_steps, policy_step)
            ready = []
        for done in pool.gather():
            index = running.pop(done.ticket)
            if _goes_on(live[index], done):
                ready.append(index)
            else:
                ended[index] = live[index].episode(policy_step, done.error)
                report(list(ended.values()))
    return [ended[index] for index in range(len(live))]


def group_by_state(episodes: Sequence[Episode]) -> list[Group]:
    """Groups of equal task and initial state, in order of appearance, without errors."""
    groups: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        if episode.error is None:
            groups.setdefault((episode.task, episode.init_hash), []).append(episode)
    return [Group(tuple(members)) for members in groups.values()]


def replay(
    pool: SimulatorPool, episodes: Sequence[tuple[Task, Episode]], frame_every: int
) -> list[np.ndarray]:
    """Video frames uint8[f, h, w, 3] of episodes, by executing their actions again.

    A simulator is a pure function: the replay is the episode, so nothing is filmed in advance.
    """
    at = pool.map([Job(task, start, (episode.seed,)) for task, episode in episodes])
    films: list[list[np.ndarray]] = [[] for _ in episodes]
    longest = max((len(episode) for _, episode in episodes), default=0)
    # In pieces: a whole episode with a picture a step takes longer than a job may.
    for first in range(0, longest, piece := _REPLAY_FRAMES * frame_every):
        jobs = {
            i: Job(task, run, (at[i].state, episode.actions[first : first + piece], frame_every))
            for i, (task, episode) in enumerate(episodes)
            if first < len(episode)
        }
        for i, boundary in zip(jobs, pool.map(jobs.values()), strict=True):
            at[i] = boundary
            films[i].append(boundary.frames)
    return [np.concatenate(film) for film in films]


def _act(
    policy: Policy,
    pool: SimulatorPool,
    live: list[_Live],
    ready: list[int],
    execute_steps: int,
    policy_step: int,
) -> dict[int, int]:
    """One batched policy call for the ready episodes; submits their chunks."""
    for index in ready:
        live[index].look()
    boundaries = [at for at in (live[index].at for index in ready) if at is not None]
    noise = np.stack([_noise(policy, live[index], policy_step) for index in ready])
    chunks = policy.act([at.obs for at in boundaries if at.obs is not None], noise)
    tickets = {}
    for index, at, chunk in zip(ready, boundaries, chunks, strict=True):
        episode = live[index]
        steps = min(execute_steps, episode.plan.task.max_steps - episode.steps)
        job = Job(episode.plan.task, run, (at.state, chunk[:steps]))
        tickets[pool.submit(job)] = index
    return tickets


def _noise(policy: Policy, episode: _Live, policy_step: int) -> np.ndarray:
    """float32[H, d] that belongs to one chunk of one episode."""
    config = policy.model.config
    key = (episode.plan.seed, episode.plan.rollout, policy_step, episode.steps)
    shape = (config.action_horizon, config.action_dim)
    return np.random.default_rng(key).standard_normal(shape, np.float32)


def _goes_on(episode: _Live, done: Done) -> bool:
    return done.error is None and episode.advance(done.result)


def _join(parts: list[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, width), np.float32), *parts])
