"""Success of a policy on initial states that no training saw."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pi0_jax.episode import Episode, save_episodes
from pi0_jax.errors import InputError, check_minima
from pi0_jax.policy import Policy
from pi0_jax.policy_folder import PolicyFolder
from pi0_jax.rl.rollout import collect, plan_states
from pi0_jax.run_folder import success_text
from pi0_jax.session import Session
from pi0_jax.statistics import Phase, Row


@dataclass(frozen=True)
class EvalConfig:
    """The protocol of an evaluation.

    Attributes:
        episodes: initial states a task.
        first_seed: seed of the first of them.
        guidance: scales to evaluate.
        num_steps: Euler steps.
        videos: videos of successes and of failures, each.
    """

    episodes: int
    first_seed: int
    guidance: tuple[float, ...]
    num_steps: int
    videos: int

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_minima("eval", self, {"episodes": 1, "num_steps": 1, "first_seed": 0, "videos": 0})
        numbers = (
            isinstance(s, int | float) and math.isfinite(s) and s >= 0 for s in self.guidance
        )
        if not self.guidance or not all(numbers):
            raise InputError(
                f"eval.guidance must be scales that are not negative, such as (1.0,), got "
                f"{self.guidance!r}"
            )


def measure(
    session: Session,
    config: EvalConfig,
    phase: Phase,
    arm: str,
    folder: PolicyFolder,
    scales: Sequence[float],
) -> None:
    """Evaluates a policy at some guidance scales; those the run holds already are left out.

    Every policy meets the same initial states with the same noise, so differences between arms
    and scales are paired. Writes rows to results.json, and to episodes/eval a line an episode
    (.jsonl) and the episodes themselves (.npz).
    """
    run = session.run
    run.protocol["evaluation"] = asdict(config)
    for scale in scales:
        if run.has_row(arm, scale):
            continue
        policy = Policy.from_folder(folder, scale, config.num_steps)
        episodes = _evaluate(session, config, arm, policy, folder.spec.execute_steps)
        save_episodes(run.episodes(f"eval/{arm}_{scale:g}"), episodes)
        _write_lines(run.path / "episodes" / "eval" / f"{arm}_{scale:g}.jsonl", episodes)
        run.add_rows(rows(episodes, phase, arm, scale))


def rows(episodes: Sequence[Episode], phase: Phase, arm: str, guidance: float | None) -> list[Row]:
    """One row a task; episodes that the simulator spoiled are not counted."""
    valid = [episode for episode in episodes if episode.error is None]
    names = dict.fromkeys(episode.task for episode in episodes)
    of_task = {name: [e for e in valid if e.task == name] for name in names}
    return [
        Row(phase, arm, name, guidance, sum(e.success for e in members), len(members))
        for name, members in of_task.items()
    ]


def _evaluate(
    session: Session, config: EvalConfig, arm: str, policy: Policy, execute_steps: int
) -> list[Episode]:
    seeds = range(config.first_seed, config.first_seed + config.episodes)
    states = [(task, seed) for task in session.suite.tasks for seed in seeds]
    label = f"{arm}: evaluation at guidance {policy.guidance:g}"
    with session.run.progress(label, len(states)) as progress:
        return collect(
            policy,
            session.pool,
            plan_states(session.pool, states),
            execute_steps,
            policy_step=0,
            report=lambda done: progress.update(len(done), success_text(done)),
        )


def _write_lines(path: Path, episodes: Sequence[Episode]) -> None:
    """One JSON object an episode: what a person wants to search."""
    lines = [
        {
            "task": episode.task,
            "seed": episode.seed,
            "init_hash": episode.init_hash,
            "success": episode.success,
            "steps": len(episode),
            "error": episode.error,
        }
        for episode in episodes
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
