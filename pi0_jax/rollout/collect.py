"""Policy x simulator pool x a finite plan -> episodes.

The policy is asked in batches, for whatever episodes are at a chunk boundary; it thinks in a
thread, while the simulators go on with the others. An episode depends on its parameters, initial
state and noise alone, never on which worker ran which chunk, or on who else was in the batch.

Axis letters: t control step, H action horizon, d padded action dimension, e robot's.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pi0_jax.env.base import ChunkResult, Done, Engine, Job, Task, run, start
from pi0_jax.episode import Episode, Group
from pi0_jax.policy.policy import Policy

Report = Callable[[Sequence[Episode]], None]
"""Called with all episodes that have ended so far, in the order in which they ended."""

_THINKING_S = 0.005  # between two looks at whether the policy has made up its mind
_REPLAY_FRAMES = 40  # of a piece of a replay; 8 s of LIBERO's pictures in software


class Start(NamedTuple):
    """An initial state that is about to be visited.

    Attributes:
        task: what to do there.
        seed: of the state.
        visit: which visit this is; another one draws other noise.
    """

    task: Task
    seed: int
    visit: int = 0


@dataclass(frozen=True)
class Plan:
    """One episode to be run.

    Attributes:
        task: what to do.
        seed: of the initial state.
        first: the initial state and the first observation; None where the simulator could not
            give them.
        rollout: which of the rollouts from that state; it changes the noise only.
        error: why there is no first observation, or None.
    """

    task: Task
    seed: int
    first: ChunkResult | None
    rollout: int = 0
    error: str | None = None


@dataclass
class _Live:
    """An episode in progress: everything the boundaries have told so far."""

    plan: Plan
    at: ChunkResult | None
    keep_images: bool = True
    images: list[np.ndarray] = field(default_factory=list)
    image_steps: list[int] = field(default_factory=list)
    chunk_starts: list[int] = field(default_factory=list)
    parts: list[ChunkResult] = field(default_factory=list)
    steps: int = 0

    def look(self) -> None:
        """Keeps the observation that the policy is about to see."""
        assert self.at is not None and self.at.obs is not None
        if self.keep_images:
            self.images.append(self.at.obs.images)
            self.image_steps.append(self.steps)
        self.chunk_starts.append(self.steps)

    def advance(self, boundary: ChunkResult) -> bool:
        """Takes the end of a chunk; True while the episode goes on."""
        self.at = boundary
        self.parts.append(replace(boundary, obs=None, looks=boundary.looks[:0]))
        if self.keep_images:
            self.images += list(boundary.looks)
            self.image_steps += [self.steps + int(step) for step in boundary.look_steps]
        self.steps += len(boundary.actions)
        return not boundary.success and self.steps < self.plan.task.max_steps

    def episode(self, optimizer_step: int, error: str | None) -> Episode:
        """The finished episode. A look whose chunk was lost to an error is left out."""
        seen = sum(step < self.steps for step in self.image_steps)
        images = np.stack(self.images)[:seen] if self.images else np.zeros((0,), np.uint8)
        robot = self.plan.task.robot
        return Episode(
            task=self.plan.task.name,
            prompt=self.plan.task.instruction,
            robot=robot,
            init_hash=self.plan.first.state.hash if self.plan.first else "",
            seed=self.plan.seed,
            images=images,
            image_steps=np.array(self.image_steps[:seen], np.int32),
            state=_join([part.proprio for part in self.parts], len(robot.state)),
            actions=_join([part.actions for part in self.parts], len(robot.actions)),
            chunk_start=np.isin(np.arange(self.steps), self.chunk_starts),
            success=error is None and self.at is not None and self.at.success,
            optimizer_step=optimizer_step,
            error=error,
        )


def plan_states(pool: Engine, states: Sequence[tuple[Task, int]], rollouts: int = 1) -> list[Plan]:
    """Starts every (task, seed) once and plans `rollouts` episodes from copies of its state."""
    return plan_groups(pool, [(Start(*state),) for state in states], rollouts)


def plan_groups(pool: Engine, groups: Sequence[tuple[Start, ...]], size: int) -> list[Plan]:
    """Plans `size` episodes a group, from its one initial state or from as many as it has.

    Every initial state is built once; episodes start from copies.
    """
    starts = [start for group in groups for start in group]
    found = iter(pool.run_all([Job(s.task, start, (s.seed,)) for s in starts]))
    plans = []
    for group in groups:
        firsts = [(at, next(found)) for at in group]
        for rollout in range(size):
            at, first = firsts[rollout % len(firsts)]
            number = at.visit * size + rollout
            plans.append(Plan(at.task, at.seed, first.result, number, first.error))
    return plans


def collect(
    policy: Policy,
    pool: Engine,
    plans: Sequence[Plan],
    execute_steps: int,
    optimizer_step: int = 0,
    report: Report = lambda episodes: None,
    keep_images: bool = True,
    look_every: int = 0,
) -> list[Episode]:
    """Runs every plan to its end.

    Args:
        policy: what acts.
        pool: where the simulators are.
        plans: episodes to run.
        execute_steps: actions executed of each chunk.
        optimizer_step: recorded with the episodes, and part of their noise.
        report: for a progress line.
        keep_images: store what the policy saw; without, `images` and `image_steps` are empty.
        look_every: also record images before every n-th step of an episode; 0 for none but
            those that the policy sees. It changes nothing else.

    Returns:
        One episode a plan, in their order. A plan whose simulator failed for good gives an
        episode with `error` set, which is neither success nor failure of the policy.
    """
    acting = _Acting(policy, pool, execute_steps, optimizer_step, look_every)
    live = [_Live(plan, plan.first, keep_images) for plan in plans]
    ended: dict[int, Episode] = {}
    for index, error in acting.run(live):
        ended[index] = live[index].episode(optimizer_step, error)
        if live[index].plan.first is not None:
            report(list(ended.values()))
    return [ended[index] for index in range(len(live))]


def groups_of(episodes: Sequence[Episode], size: int) -> list[Group]:
    """The groups of episodes that were planned group by group, `size` each, without errors."""
    return [
        Group(tuple(e for e in episodes[first : first + size] if e.error is None))
        for first in range(0, len(episodes), size)
    ]


def replay(
    pool: Engine, episodes: Sequence[tuple[Task, Episode]], frame_every: int
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


@dataclass(frozen=True)
class _Acting:
    """How a policy acts in a batch of episodes; see `collect`."""

    policy: Policy
    pool: Engine
    execute_steps: int
    optimizer_step: int
    look_every: int

    def run(self, live: list[_Live]) -> Iterator[tuple[int, str | None]]:
        """Yields each episode that ends, by its index, with its error or None.

        Those that could not be started come first.
        """
        yield from ((i, one.plan.error) for i, one in enumerate(live) if one.plan.first is None)
        ready = [i for i, one in enumerate(live) if one.plan.first is not None]
        running: dict[int, int] = {}  # ticket -> index into live
        thought: Future[list[Job]] | None = None
        asked: list[int] = []  # whose chunks are being thought of
        with ThreadPoolExecutor(1) as thinker:
            while ready or running or asked:
                if ready and not asked and self.pool.backlog < self.pool.workers:
                    asked, ready = ready, []
                    thought = thinker.submit(self.next_jobs, [live[index] for index in asked])
                if thought is not None and (thought.done() or not running):
                    tickets = [self.pool.submit(job) for job in thought.result()]
                    running |= dict(zip(tickets, asked, strict=True))
                    asked, thought = [], None
                    continue
                for done in self.pool.gather(_THINKING_S if asked else None):
                    index = running.pop(done.ticket)
                    if _goes_on(live[index], done):
                        ready.append(index)
                    else:
                        yield index, done.error

    def next_jobs(self, ready: list[_Live]) -> list[Job]:
        """One batched policy call for episodes at a boundary: the next chunk of each."""
        for episode in ready:
            episode.look()
        boundaries = [at for at in (episode.at for episode in ready) if at is not None]
        noise = np.stack([_noise(self.policy, episode, self.optimizer_step) for episode in ready])
        chunks = self.policy.act([at.obs for at in boundaries if at.obs is not None], noise)
        return [self.job(*one) for one in zip(ready, boundaries, chunks, strict=True)]

    def job(self, episode: _Live, at: ChunkResult, chunk: np.ndarray) -> Job:
        """The next chunk of an episode, float32[H, e], as far as it is executed."""
        task = episode.plan.task
        steps = min(self.execute_steps, task.max_steps - episode.steps)
        looks = (0, self.look_every, episode.steps) if self.look_every else ()
        return Job(task, run, (at.state, chunk[:steps], *looks))


def _noise(policy: Policy, episode: _Live, optimizer_step: int) -> np.ndarray:
    """float32[H, d] that belongs to one chunk of one episode."""
    config = policy.model.config
    key = (episode.plan.seed, episode.plan.rollout, optimizer_step, episode.steps)
    shape = (config.action_horizon, config.action_dim)
    return np.random.default_rng(key).standard_normal(shape, np.float32)


def _goes_on(episode: _Live, done: Done) -> bool:
    return done.error is None and episode.advance(done.result)


def _join(parts: list[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, width), np.float32), *parts])
