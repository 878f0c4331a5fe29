"""Policy x simulator pool x a finite plan -> episodes.

The policy is called in batches, for all episodes that are at a chunk boundary. It computes in a
thread of its own, while the simulators go on with the other episodes. An episode depends only on
parameters, initial state and noise, never on which worker ran which chunk or which other episodes
were in the batch.

Axis letters: t control step, H action horizon, d padded action dimension, e robot's action
dimension, s state dimension, r rendered step, f video frame, c camera, h height, w width,
K flow step, n policy call.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pi0_jax.env.base import ChunkResult, Done, Engine, Job, Task, run, start
from pi0_jax.env.seen import run_seen, seen
from pi0_jax.episode import Episode, Group, RawObs
from pi0_jax.policy.chains import act_in_chains, chain_shape
from pi0_jax.policy.policy import Policy, chunk_noise
from pi0_jax.policy.remote import RemotePolicy
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.policy.spec import check_execute_steps
from pi0_jax.rollout.policy_use import PolicyUse

Report = Callable[[Sequence[Episode]], None]
"""Called with all episodes that have ended so far, in the order in which they ended."""

Key = tuple[str, int, int]
"""Of a planned episode: name of the task, seed of the initial state, number of the rollout."""

Ended = dict[Key, Episode]
"""Episodes that have ended."""

_POLL_S = 0.005  # from one check whether the policy has its chunks to the next
_REPLAY_FRAMES = 40  # per job of a replay; rendering them takes LIBERO 8 s in software


class Start(NamedTuple):
    """An initial state from which rollouts are to start.

    Attributes:
        task: the task.
        seed: seed of the state.
        visit: number of this visit of the state; every visit has other noise.
    """

    task: Task
    seed: int
    visit: int = 0


@dataclass(frozen=True)
class Plan:
    """One episode to be run.

    Attributes:
        task: the task.
        seed: seed of the initial state.
        first: the initial state and the first observation; None if the simulator failed.
        rollout: number of the rollout from this state; it changes only the noise.
        error: why there is no first observation, or None.
    """

    task: Task
    seed: int
    first: ChunkResult | None
    rollout: int = 0
    error: str | None = None

    @property
    def key(self) -> Key:
        """Different for all plans of one collection."""
        return self.task.name, self.seed, self.rollout


@dataclass
class _Live:
    """An episode in progress: everything that was recorded so far.

    Attributes:
        plan: the planned episode.
        at: result of the last chunk; None if the episode could not start.
        keep_images: whether images are recorded.
        images: r images uint8[c, h, w, 3], as the policy saw them.
        image_steps: the r control steps before which they were rendered.
        chunk_starts: control steps at which the policy was called.
        parts: results of the chunks, without their images.
        chains: chain and log densities of each policy call; empty under the plain flow.
        steps: number of executed control steps.
    """

    plan: Plan
    at: ChunkResult | None
    keep_images: bool = True
    images: list[np.ndarray] = field(default_factory=list)
    image_steps: list[int] = field(default_factory=list)
    chunk_starts: list[int] = field(default_factory=list)
    parts: list[ChunkResult] = field(default_factory=list)
    chains: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    steps: int = 0

    def look(self) -> None:
        """Records the observation that the policy is about to see."""
        assert self.at is not None and self.at.obs is not None
        if self.keep_images:
            self.images.append(self.at.obs.images)
            self.image_steps.append(self.steps)
        self.chunk_starts.append(self.steps)

    def advance(self, boundary: ChunkResult) -> bool:
        """Records the result of a chunk; returns whether the episode goes on."""
        self.at = boundary
        # Images are kept once, in `images`, and not at all without `keep_images`.
        self.parts.append(replace(boundary, obs=None, looks=boundary.looks[:0]))
        if self.keep_images:
            self.images += list(boundary.looks)
            # The chunk counts its steps from 0, the episode counts all.
            self.image_steps += [self.steps + int(step) for step in boundary.look_steps]
        self.steps += len(boundary.actions)
        return not boundary.success and self.steps < self.plan.task.max_steps

    def episode(self, optimizer_step: int, error: str | None) -> Episode:
        """The finished episode; an image whose chunk failed is left out."""
        # With an error, the policy saw a last image but its actions were never executed.
        seen = sum(step < self.steps for step in self.image_steps)
        # uint8[r, c, h, w, 3]
        images = np.stack(self.images)[:seen] if self.images else np.zeros((0,), np.uint8)
        robot = self.plan.task.robot
        chain, log_prob = self.executed_chains()
        return Episode(
            task=self.plan.task.name,
            prompt=self.plan.task.instruction,
            robot=robot,
            init_hash=self.plan.first.state.hash if self.plan.first else "",
            seed=self.plan.seed,
            images=images,
            image_steps=np.array(self.image_steps[:seen], np.int32),
            state=_join([part.proprio for part in self.parts], len(robot.state)),  # [t, s]
            actions=_join([part.actions for part in self.parts], len(robot.actions)),  # [t, e]
            chunk_start=np.isin(np.arange(self.steps), self.chunk_starts),
            success=error is None and self.at is not None and self.at.success,
            optimizer_step=optimizer_step,
            error=error,
            chain=chain,
            chain_log_prob=log_prob,
        )

    def executed_chains(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """The chains [n, K + 1, H, d] and log densities [n, K, H, e] of chunks that were run."""
        count = sum(step < self.steps for step in self.chunk_starts)
        if not self.chains or not count:
            return None, None
        chain, log_prob = zip(*self.chains[:count], strict=True)
        return np.stack(chain), np.stack(log_prob)


def plan_states(pool: Engine, states: Sequence[tuple[Task, int]], rollouts: int = 1) -> list[Plan]:
    """Builds every initial state (task, seed) once and plans `rollouts` episodes from each."""
    return plan_groups(pool, [(Start(*state),) for state in states], rollouts)


def plan_groups(pool: Engine, groups: Sequence[tuple[Start, ...]], size: int) -> list[Plan]:
    """Plans `size` episodes per group, from its one initial state or from several in turn.

    Every initial state is built once; episodes start from copies of it.
    """
    starts = [start for group in groups for start in group]
    found = iter(pool.run_all([Job(s.task, start, (s.seed,)) for s in starts]))
    plans = []
    for group in groups:
        firsts = [(at, next(found)) for at in group]
        for rollout in range(size):
            at, first = firsts[rollout % len(firsts)]
            # Counts on from visit to visit, so that no two rollouts of a state share their noise.
            number = at.visit * size + rollout
            plans.append(Plan(at.task, at.seed, first.result, number, first.error))
    return plans


def collect(
    policy: Policy | RemotePolicy,
    pool: Engine,
    plans: Sequence[Plan],
    execute_steps: int,
    optimizer_step: int = 0,
    report: Report = lambda episodes: None,
    keep_images: bool = True,
    look_every: int = 0,
    noise_level: float | np.ndarray = 0.0,
    ended: Ended | None = None,
    use: PolicyUse | None = None,
) -> list[Episode]:
    """Runs every plan to its end.

    Args:
        policy: the policy that acts.
        pool: the engine that runs the simulators.
        plans: episodes to run.
        execute_steps: number of actions executed of each chunk.
        optimizer_step: recorded with the episodes, and part of the key of their noise.
        report: called with the episodes that have ended, for a progress line.
        keep_images: record the images that the policy saw; if False, `images` and `image_steps`
            are empty.
        look_every: also record images before every n-th step of an episode; 0 for only those that
            the policy sees. It changes nothing else.
        noise_level: draw the chunks by Flow-SDE with noise of this level, one number or float32[d],
            and record their chains; 0 for the plain flow, which a remote policy has alone.
        ended: episodes of these plans that an interrupted call has run already, with the same
            policy and step: they are not run again. Those that end are put there.
        use: counts the calls of the policy.

    Returns:
        One episode per plan, in their order. If a plan's simulator failed in every attempt, its
        episode has `error` set and is neither a success nor a failure of the policy.

    Raises:
        InputError: a task is of another robot than the policy, or `execute_steps` does not fit the
            policy's chunks.
    """
    _check(policy, plans, execute_steps)
    used = use or PolicyUse()
    acting = _Acting(policy, pool, execute_steps, optimizer_step, look_every, noise_level, used)
    ended = {} if ended is None else ended
    firsts = acting.firsts(plans)
    live = [
        _Live(plan, firsts[id(plan.first)], keep_images) for plan in plans if plan.key not in ended
    ]
    found = {plan.key: ended[plan.key] for plan in plans if plan.key in ended}
    for index, error in acting.run(live):
        plan = live[index].plan
        ended[plan.key] = found[plan.key] = live[index].episode(optimizer_step, error)
        # An episode that could not start was not run: no progress to report.
        if plan.first is not None:
            report(list(found.values()))
    return [found[plan.key] for plan in plans]


def _check(policy: Policy | RemotePolicy, plans: Sequence[Plan], execute_steps: int) -> None:
    remote = isinstance(policy, RemotePolicy)
    horizon = policy.action_horizon if remote else policy.model.config.action_horizon
    check_execute_steps("execute_steps", execute_steps, horizon)
    for task in {plan.task.name: plan.task for plan in plans}.values():
        check_robot(policy.robot, task.robot)


def groups_of(episodes: Sequence[Episode], size: int) -> list[Group]:
    """Splits episodes that were planned in groups of `size`; those with errors are left out."""
    return [
        Group(tuple(e for e in episodes[first : first + size] if e.error is None))
        for first in range(0, len(episodes), size)
    ]


def replay(
    pool: Engine, episodes: Sequence[tuple[Task, Episode]], frame_every: int
) -> list[np.ndarray]:
    """Renders video frames uint8[f, h, w, 3] of episodes by executing their actions again.

    A simulator is a pure function, so the replay is equal to the episode, and no frame has to be
    rendered during the rollout.
    """
    at = pool.map([Job(task, start, (episode.seed,)) for task, episode in episodes])
    films: list[list[np.ndarray]] = [[] for _ in episodes]
    longest = max((len(episode) for _, episode in episodes), default=0)
    # In pieces, because a job has a time limit, and a whole episode with a frame per step takes
    # longer.
    for first in range(0, longest, piece := _REPLAY_FRAMES * frame_every):
        jobs = {
            i: Job(task, run, (at[i].state, episode.actions[first : first + piece], frame_every))
            for i, (task, episode) in enumerate(episodes)
            if first < len(episode)
        }
        for i, boundary in zip(jobs, pool.map(jobs.values()), strict=True):
            at[i] = boundary
            films[i].append(boundary.frames)  # [f of the piece, h, w, 3]
    return [np.concatenate(film) for film in films]


@dataclass(frozen=True)
class _Acting:
    """How a policy acts in a batch of episodes; see `collect`."""

    policy: Policy | RemotePolicy
    pool: Engine
    execute_steps: int
    optimizer_step: int
    look_every: int
    noise_level: float | np.ndarray
    use: PolicyUse

    def run(self, live: list[_Live]) -> Iterator[tuple[int, str | None]]:
        """Yields the index of each episode that ends, with its error or None.

        Episodes that could not be started come first.
        """
        # The policy computes in one thread, the simulators in N processes, and this loop passes
        # work between them. Four episodes A to D with two workers, time to the right:
        #
        #   policy   [A B C D]     [B    ][A C  ]     [D  ]
        #   worker 1          [A     ][D             ][A ..
        #   worker 2          [B  ][C   ] [B            ][C ..
        #
        # The policy computes the next chunk of all episodes in `ready` in one batch. While it
        # does, chunks that end are gathered every `_POLL_S`, and their episodes wait in
        # `ready` for the next batch. It starts only if fewer chunks wait for a worker than there
        # are workers: with enough work queued, a later start makes a larger batch.
        #
        # An episode is in one place at a time: ready -> asked -> running -> ready ... -> yielded.
        yield from ((i, one.plan.error) for i, one in enumerate(live) if one.plan.first is None)
        ready = [i for i, one in enumerate(live) if one.plan.first is not None]
        running: dict[int, int] = {}  # ticket -> index into live
        batch: Future[list[Job]] | None = None
        asked: list[int] = []  # indices of the batch that the policy is computing
        with ThreadPoolExecutor(1) as policy_thread:
            while ready or running or asked:
                if ready and not asked and self.pool.backlog < self.pool.workers:
                    asked, ready = ready, []
                    episodes = [live[index] for index in asked]
                    batch = policy_thread.submit(self.next_jobs, episodes)
                # With nothing running there is nothing to gather: wait for the policy.
                if batch is not None and (batch.done() or not running):
                    tickets = [self.pool.submit(job) for job in batch.result()]
                    running |= dict(zip(tickets, asked, strict=True))
                    asked, batch = [], None
                    continue
                for done in self.pool.gather(_POLL_S if asked else None):
                    # Other tickets are of a collection that was interrupted.
                    if (index := running.pop(done.ticket, None)) is None:
                        continue
                    if _goes_on(live[index], done):
                        ready.append(index)
                    else:
                        yield index, done.error

    @property
    def side(self) -> int:
        """Height and width [px] of the policy's pictures; 0 for a remote one, which resizes."""
        policy = self.policy
        return 0 if isinstance(policy, RemotePolicy) else policy.model.config.vision.image_size

    def firsts(self, plans: Sequence[Plan]) -> dict[int, ChunkResult | None]:
        """The first results of plans as the policy sees them, by the `id` of the plan's own."""
        # Once per initial state: the rollouts of a group share it.
        own = {id(plan.first): plan.first for plan in plans}
        side = self.side
        return {i: seen(first, side) if first and side else first for i, first in own.items()}

    def next_jobs(self, ready: list[_Live]) -> list[Job]:
        """Calls the policy once for a batch of episodes: the job of each one's next chunk."""
        for episode in ready:
            episode.look()
        boundaries = [at for at in (episode.at for episode in ready) if at is not None]
        start = time.monotonic()
        chunks = self.chunks(ready, [at.obs for at in boundaries if at.obs is not None])
        rows = getattr(self.policy, "rows", 0)  # of a remote policy nobody knows
        self.use.add(time.monotonic() - start, len(ready), rows)
        return [self.job(*one) for one in zip(ready, boundaries, chunks, strict=True)]

    def chunks(self, ready: list[_Live], observations: Sequence[RawObs]) -> np.ndarray:
        """The next chunk of each episode, float32[b, H, e]; a chain is recorded."""
        # Every row has a seed of its own, so the batch does not matter.
        if isinstance(self.policy, RemotePolicy):
            return self.policy.act_seeded(observations, self.seeds(ready))
        if not np.any(self.noise_level):
            return self.policy.act(observations, self.noise(ready, _chunk_shape(self.policy)))
        shape = chain_shape(self.policy)
        noise = self.noise(ready, shape)  # [b, K + 1, H, d]
        acted = act_in_chains(self.policy, observations, noise, self.noise_level)
        for episode, *chain in zip(ready, acted.chain, acted.log_prob, strict=True):
            episode.chains.append(tuple(chain))
        return acted.actions

    def noise(self, ready: list[_Live], shape: tuple[int, ...]) -> np.ndarray:
        """Noise float32[b, *shape] of the next chunks."""
        return np.stack([chunk_noise(seed, shape) for seed in self.seeds(ready)])

    def seeds(self, ready: list[_Live]) -> list[tuple[int, ...]]:
        """Seeds of the noise of the next chunks."""
        # A function of what the chunk is, not of when it is computed: a rollout can be repeated. A
        # chain starts from the noise that the plain flow starts from.
        return [(e.plan.seed, e.plan.rollout, self.optimizer_step, e.steps) for e in ready]

    def job(self, episode: _Live, at: ChunkResult, chunk: np.ndarray) -> Job:
        """The job that executes the first actions of `chunk`, float32[H, e]."""
        task = episode.plan.task
        # The last chunk of an episode may be cut by the step limit.
        steps = min(self.execute_steps, task.max_steps - episode.steps)
        looks = (0, self.look_every, episode.steps) if self.look_every else ()
        chunk_of = (at.state, chunk[:steps], *looks)
        side = self.side
        return Job(task, run_seen, (side, *chunk_of)) if side else Job(task, run, chunk_of)


def _chunk_shape(policy: Policy) -> tuple[int, int]:
    """[H, d] of a normalised chunk."""
    return policy.model.config.action_horizon, policy.model.config.action_dim


def _goes_on(episode: _Live, done: Done) -> bool:
    return done.error is None and episode.advance(done.result)


def _join(parts: list[np.ndarray], width: int) -> np.ndarray:
    """float32[t, width] of all parts [t of a chunk, width]; [0, width] without any."""
    return np.concatenate([np.zeros((0, width), np.float32), *parts])
