"""Success of a policy on initial states that were not used in training."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Annotated

from pi0_jax.env.base import Engine, Task
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.shared_episodes import of_all_hosts
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.reference import (
    BASE,
    NONE,
    UNCONDITIONAL,
    Reference,
    base_text,
    kinds_of,
)
from pi0_jax.policy.remote import RemotePolicy
from pi0_jax.policy.spec import PolicySpec, check_execute_steps
from pi0_jax.ranges import check_ranges
from pi0_jax.rollout.collect import Report, collect, plan_states
from pi0_jax.rollout.episode_log import EpisodeLog, Key, evaluation_log, key
from pi0_jax.rollout.guidance import Guidance, sweep
from pi0_jax.rollout.policy_use import PolicyUse
from pi0_jax.run.folder import success_text
from pi0_jax.run.memory_used import memory_used
from pi0_jax.run.paired import against_one
from pi0_jax.run.session import Session
from pi0_jax.run.success import Phase, Row
from pi0_jax.types import FLOW_STEPS

# Episodes that run at a time on a host: few enough for memory.
_AT_ONCE = 64

State = tuple[Task, int]
"""A task and the seed of an initial state."""


@dataclass(frozen=True)
class EvalConfig:
    """The protocol of an evaluation.

    Attributes:
        episodes: number of initial states per task.
        first_seed: seed of the first of them.
        guidance: guidance scales to evaluate.
        num_flow_steps: flow steps per action chunk.
        videos: number of videos per task and kind (`record_videos.record_videos`).
        execute_steps: actions executed of each chunk; 0 for the policy folder's own number.
        every: also evaluate during RL, after every n-th iteration, at guidance 1; 0 for never.
        reference: what guidance leads away from: "unconditional", the policy's other branch;
            "base", the policy that RL started from, or that the policy folder carries;
            "unconditional+base", one after the other; "none", and then guidance is 1; for pi0-eval
            also the path of a policy folder.
    """

    episodes: Annotated[int, "[1, 1e6]"]
    first_seed: Annotated[int, "[0, 1e18]"]
    guidance: Annotated[tuple[float, ...], "[0, 1e6]"]
    num_flow_steps: Annotated[int, "[1, 1e5]"] = FLOW_STEPS
    videos: Annotated[int, "[0, 1e6]"] = 2
    execute_steps: Annotated[int, "[0, 1e4]"] = 0
    every: Annotated[int, "[0, 1e9]"] = 0
    reference: str = Reference.kind

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: a value is out of range; the message names it.
        """
        check_ranges("eval", self)
        if not self.guidance:
            raise InputError("eval.guidance must have at least one scale, such as (1.0,), got none")
        # Scales name files, with six digits.
        if len({f"{scale:g}" for scale in self.guidance}) < len(set(self.guidance)):
            raise InputError(f"eval.guidance: scales that are almost equal: {self.guidance!r}")
        self._check_reference()

    def _check_reference(self) -> None:
        """Checks that the reference is named, and that every scale has one to lead away from."""
        if not self.reference:
            raise InputError(
                f"eval.reference must be {UNCONDITIONAL!r}, {BASE!r}, both with a plus between "
                f"them, {NONE!r} or the path of a policy folder, got ''"
            )
        named = kinds_of(self.reference)
        if NONE in named and len(named) > 1:
            raise InputError(
                f"eval.reference is {self.reference!r}: {NONE!r} goes with no other reference"
            )
        if self.reference == NONE and self._guided:
            raise InputError(
                f"eval.guidance is {self.guidance!r}, and eval.reference is {NONE!r}: without a "
                f"reference the only scale is 1; choose {UNCONDITIONAL!r} or {BASE!r}"
            )

    @property
    def references(self) -> tuple[str, ...]:
        """What the scales lead away from: kinds of `policy.reference`; none at scale 1 alone."""
        return kinds_of(self.reference) if self._guided else (NONE,)

    @property
    def _guided(self) -> bool:
        """Whether a scale needs a reference; at 1 the policy acts alone."""
        return set(self.guidance) != {1.0}

    @property
    def sweep(self) -> tuple[Guidance, ...]:
        """Every scale with every reference."""
        return sweep(self.guidance, self.references)

    @property
    def seeds(self) -> range:
        """Seeds of the initial states of every task."""
        return range(self.first_seed, self.first_seed + self.episodes)

    def states(self, tasks: Sequence[Task]) -> list[State]:
        """The initial states of an evaluation: every task at the same seeds."""
        return [(task, seed) for task in tasks for seed in self.seeds]

    def executed(self, spec: PolicySpec) -> int:
        """Number of actions of each chunk that this policy executes.

        Raises:
            InputError: it is more than a chunk has.
        """
        steps = self.execute_steps or spec.execute_steps
        check_execute_steps("eval.execute_steps", steps, spec.model.action_horizon)
        return steps


def evaluate_policy(
    session: Session,
    config: EvalConfig,
    phase: Phase,
    method: str,
    folder: PolicyFolder,
    points: Sequence[Guidance],
) -> None:
    """Evaluates a policy at some points of guidance; stored episodes of the run are not run again.

    Every policy gets the same initial states with the same noise, so differences between methods
    and scales are paired. Writes rows and the scales' comparison to results.json, and to
    episodes/eval one line per episode (.jsonl) and the episodes themselves without images (.npz).

    Args:
        session: session of the run.
        config: the protocol.
        phase: the part of the run that has just ended.
        method: name of the method.
        folder: the policy; with a reference if one of the points leads away from a base.
        points: scales and their references.

    Raises:
        InputError: the policy has no reference, or executes more actions than a chunk has.
    """
    steps = config.executed(folder.spec)
    if folder.reference is not None and any(p.reference == BASE and p.scale for p in points):
        session.run.message(f"{method}: {base_text(folder.params, folder.reference)}")
    acting = _Guided(folder, config, session.rows)
    evaluate_points(session, config, phase, method, steps, acting, points)


def evaluate_points(
    session: Session,
    config: EvalConfig,
    phase: Phase,
    method: str,
    execute_steps: int,
    acting: Callable[[Guidance], Policy | RemotePolicy],
    points: Sequence[Guidance],
) -> None:
    """As `evaluate_policy`, of a policy that may compute elsewhere.

    Args:
        session: session of the run.
        config: the protocol.
        phase: the part of the run that has just ended.
        method: name of the method.
        execute_steps: actions executed of each chunk.
        acting: the policy, guided as a point says; called where an episode is missing.
        points: scales and their references.
    """
    run = session.run
    run.protocol["evaluation"] = {**asdict(config), "execute_steps": execute_steps}
    states = config.states(session.suite.tasks)
    outcomes: dict[Guidance, dict[Key, bool]] = {}
    for point in points:
        log = evaluation_log(run, method, point)
        found = log.begin()
        missing = [(task, seed) for task, seed in states if (task.name, seed) not in found]
        if missing:
            policy = acting(point)
            found |= _evaluate(session, method, policy, point, execute_steps, missing, log, found)
        episodes = [found[task.name, seed] for task, seed in states]
        # Also where none was missing: an interruption may have come just before.
        log.finish(episodes)
        run.put_rows(rows(episodes, phase, method, point.scale, point.reference))
        outcomes[point] = {key(one): one.success for one in episodes if one.error is None}
    of_scale = {(p.scale, p.reference): found for p, found in outcomes.items()}
    run.put_rows([], against_one(phase, method, of_scale))


def evaluate_states(
    policy: Policy | RemotePolicy,
    engine: Engine,
    states: Sequence[State],
    execute_steps: int,
    report: Report = lambda episodes: None,
    use: PolicyUse | None = None,
) -> list[Episode]:
    """Runs one episode from each state; nothing is stored, and no images are kept.

    Args:
        policy: the policy that acts.
        engine: the engine that runs the simulators.
        states: initial states; those of one task next to each other.
        execute_steps: actions executed of each chunk.
        report: called with the episodes of the running block that have ended so far, and once
            with all of a block.
        use: counts the calls of the policy.

    Returns:
        One episode per state, in their order.
    """
    episodes: list[Episode] = []
    # The same blocks on all hosts, whatever cores they have.
    for block in _blocks(states, talk.count() * talk.first(lambda: engine.workers)):
        plans = plan_states(engine, talk.share(block))
        # Optimizer step 0 in the key of the noise, for any training: all policies get the
        # same noise, so that differences between them are paired.
        own = collect(policy, engine, plans, execute_steps, 0, report, False, use=use)
        ended = of_all_hosts(own)
        # Again, with those that could not start or ran elsewhere: not reported on the way.
        report(ended)
        episodes += ended
    return episodes


def rows(
    episodes: Sequence[Episode],
    phase: Phase,
    method: str,
    guidance: float | None,
    reference: str = Row.reference,
) -> list[Row]:
    """One row per task; episodes with an error of the simulator are not counted."""
    valid = [episode for episode in episodes if episode.error is None]
    names = dict.fromkeys(episode.task for episode in episodes)
    of_task = {name: [e for e in valid if e.task == name] for name in names}
    return [
        Row(phase, method, name, guidance, sum(e.success for e in members), len(members), reference)
        for name, members in of_task.items()
    ]


def _blocks(states: Sequence[State], workers: int) -> list[list[State]]:
    """Splits states into blocks that run one after the other, each of as few tasks as possible.

    A worker that changes its task builds a simulator; it should not do so at every chunk.
    """
    # Tasks share a block only if one alone has fewer states than there are workers.
    blocks: list[list[State]] = []
    for _, of_task in groupby(states, key=lambda state: state[0]):
        if blocks and len(blocks[-1]) < workers:
            blocks[-1] += of_task
        else:
            blocks.append(list(of_task))
    size = max(talk.count() * _AT_ONCE, workers)
    return [block[i : i + size] for block in blocks for i in range(0, len(block), size)]


class _Guided:
    """A policy folder's policy, guided as a point says."""

    def __init__(self, folder: PolicyFolder, config: EvalConfig, rows: int):
        self._folder, self._config, self._rows = folder, config, rows
        self._policy: Policy | None = None

    def __call__(self, point: Guidance) -> Policy:
        # Parameters are put on the device once for all scales of a reference.
        policy = self._policy
        if policy is None or point.reference not in ("", policy.reference.kind):
            kind, steps = point.reference or self._config.references[0], self._config.num_flow_steps
            policy = Policy.from_folder(self._folder, point.scale, steps, self._rows, kind)
        self._policy = replace(policy, guidance=point.scale)
        return self._policy


def _evaluate(
    session: Session,
    method: str,
    policy: Policy | RemotePolicy,
    point: Guidance,
    execute_steps: int,
    states: Sequence[State],
    log: EpisodeLog,
    known: dict[Key, Episode],
) -> dict[Key, Episode]:
    """Runs and logs the episodes of `states`; `known` are those that were stored before."""
    new: dict[Key, Episode] = {}
    use = PolicyUse()
    label, start = f"{method}: evaluation at {point}", time.monotonic()
    with session.run.progress(label, len(known) + len(states), len(known)) as progress:

        def note(ended: Sequence[Episode]) -> None:
            """Logs the episodes that have ended since the last call."""
            log.add_new(ended, new)
            text = success_text([*known.values(), *new.values()])
            progress.update(len(known) + len(new), text)

        evaluate_states(policy, session.pool, states, execute_steps, note, use)
    seconds = time.monotonic() - start
    speed = session.log_speed(label, list(new.values()), seconds)
    values = {"guidance": point.scale, "reference": point.reference, "episodes": len(new)}
    values["seconds_eval"] = seconds
    session.run.log(0, "eval", method, **values, **speed, **use.metrics(), **memory_used())
    return new
