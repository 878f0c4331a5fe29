"""Success of a policy on initial states that no training saw."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from pi0_jax.env.base import Task
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError, check_minima
from pi0_jax.policy.folder import PolicyFolder, PolicySpec
from pi0_jax.policy.policy import Policy
from pi0_jax.rollout.collect import collect, plan_states
from pi0_jax.rollout.episode_log import EpisodeLog, Key, key
from pi0_jax.run.folder import success_text
from pi0_jax.run.session import Session
from pi0_jax.run.success import Phase, Row

# Episodes under way at a time: few enough for memory.
_AT_ONCE = 64

_State = tuple[Task, int]


@dataclass(frozen=True)
class EvalConfig:
    """The protocol of an evaluation.

    Attributes:
        episodes: initial states a task.
        first_seed: seed of the first of them.
        guidance: scales to evaluate.
        num_flow_steps: Euler steps.
        videos: videos of each task and kind (`film.film`).
        execute_steps: actions executed of each chunk; 0 for as many as the policy folder says.
    """

    episodes: int
    first_seed: int
    guidance: tuple[float, ...]
    num_flow_steps: int = 10
    videos: int = 2
    execute_steps: int = 0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        minima = {
            "episodes": 1,
            "num_flow_steps": 1,
            "first_seed": 0,
            "videos": 0,
            "execute_steps": 0,
        }
        check_minima("eval", self, minima)
        numbers = (
            isinstance(s, int | float) and math.isfinite(s) and s >= 0 for s in self.guidance
        )
        if not self.guidance or not all(numbers):
            raise InputError(
                f"eval.guidance must be scales that are not negative, such as (1.0,), got "
                f"{self.guidance!r}"
            )

    def executed(self, spec: PolicySpec) -> int:
        """Actions of each chunk that this policy executes.

        Raises:
            InputError: more than its chunks have.
        """
        horizon = spec.model.action_horizon
        if self.execute_steps > horizon:
            raise InputError(
                f"eval.execute_steps must be at most {horizon}, the length of the policy's "
                f"action chunks, got {self.execute_steps}"
            )
        return self.execute_steps or spec.execute_steps


def evaluate_policy(
    session: Session,
    config: EvalConfig,
    phase: Phase,
    method: str,
    folder: PolicyFolder,
    scales: Sequence[float],
) -> None:
    """Evaluates a policy at some guidance scales; episodes that the run holds are not run again.

    Every policy meets the same initial states with the same noise, so differences between methods
    and scales are paired. Writes rows to results.json, and to episodes/eval a line an episode
    (.jsonl) and the episodes themselves without images (.npz).
    """
    run, steps = session.run, config.executed(folder.spec)
    run.protocol["evaluation"] = {**asdict(config), "execute_steps": steps}
    seeds = range(config.first_seed, config.first_seed + config.episodes)
    states = [(task, seed) for task in session.suite.tasks for seed in seeds]
    for scale in scales:
        log = EpisodeLog(run.episodes(f"eval/{method}_{scale:g}"))
        found = log.begin()
        missing = [(task, seed) for task, seed in states if (task.name, seed) not in found]
        if missing:
            policy = Policy.from_folder(folder, scale, config.num_flow_steps, session.rows)
            found |= _evaluate(session, method, policy, steps, missing, log, found)
            log.finish([found[task.name, seed] for task, seed in states])
        episodes = [found[task.name, seed] for task, seed in states]
        run.put_rows(rows(episodes, phase, method, scale))


def rows(
    episodes: Sequence[Episode], phase: Phase, method: str, guidance: float | None
) -> list[Row]:
    """One row a task; episodes that the simulator spoiled are not counted."""
    valid = [episode for episode in episodes if episode.error is None]
    names = dict.fromkeys(episode.task for episode in episodes)
    of_task = {name: [e for e in valid if e.task == name] for name in names}
    return [
        Row(phase, method, name, guidance, sum(e.success for e in members), len(members))
        for name, members in of_task.items()
    ]


def _blocks(states: Sequence[_State], workers: int) -> list[list[_State]]:
    """States to visit at a time: of as few tasks as keep the workers busy.

    A worker that changes its task builds a simulator; it should not do so at every chunk.
    """
    blocks: list[list[_State]] = []
    for _, of_task in groupby(states, key=lambda state: state[0]):
        if blocks and len(blocks[-1]) < workers:
            blocks[-1] += of_task
        else:
            blocks.append(list(of_task))
    size = max(_AT_ONCE, workers)
    return [block[i : i + size] for block in blocks for i in range(0, len(block), size)]


def _evaluate(
    session: Session,
    method: str,
    policy: Policy,
    execute_steps: int,
    states: Sequence[_State],
    log: EpisodeLog,
    known: dict[Key, Episode],
) -> dict[Key, Episode]:
    """Runs and logs the episodes of `states`, beside those that are known."""
    new: dict[Key, Episode] = {}
    label, start = f"{method}: evaluation at guidance {policy.guidance:g}", time.monotonic()
    with session.run.progress(label, len(known) + len(states), len(known)) as progress:

        def note(ended: Sequence[Episode]) -> None:
            """Logs what has ended since the last time."""
            for episode in ended:
                if key(episode) not in new:
                    log.add(episode)
                    new[key(episode)] = episode
            text = success_text([*known.values(), *new.values()])
            progress.update(len(known) + len(new), text)

        for block in _blocks(states, session.pool.workers):
            plans = plan_states(session.pool, block)
            note(collect(policy, session.pool, plans, execute_steps, 0, note, keep_images=False))
    seconds = time.monotonic() - start
    speed = session.log_speed(label, list(new.values()), seconds)
    values = {"guidance": policy.guidance, "episodes": len(new), "seconds_eval": seconds}
    session.run.log(0, "eval", method, **values, **speed)
    return new
