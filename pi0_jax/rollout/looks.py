"""What the robot saw before every step of an episode, by executing its actions again.

Axis letters: t control step, c camera, h height, w width.
"""

from collections.abc import Sequence

import numpy as np

from pi0_jax.env.base import ChunkResult, Engine, Job, Task, run, start
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError

_PIECE = 40  # control steps per job: a job has a time limit, and a picture takes up to 0.2 s


def replay_looks(pool: Engine, plays: Sequence[tuple[Task, Episode]]) -> list[np.ndarray]:
    """Renders the pictures before every step, uint8[t, c, h, w, 3] per episode.

    Args:
        pool: runs the simulators; episodes are replayed side by side.
        plays: episodes without an error, with their tasks.

    Raises:
        InputError: the simulator is not the one in which the episode was recorded.
        RuntimeError: a simulator failed in every attempt.
    """
    at: list[ChunkResult] = pool.map([Job(task, start, (one.seed,)) for task, one in plays])
    for (_, episode), first in zip(plays, at, strict=True):
        if first.state.hash != episode.init_hash:
            raise _another_simulator(episode, "begins elsewhere")
    found: list[list[np.ndarray]] = [[] for _ in plays]
    longest = max((len(episode) for _, episode in plays), default=0)
    for step in range(0, longest, _PIECE):
        # look_every is 1: all pictures but that of the piece's first step, which is there already.
        jobs = {
            i: Job(task, run, (at[i].state, episode.actions[step : step + _PIECE], 0, 1, step))
            for i, (task, episode) in enumerate(plays)
            if step < len(episode)
        }
        for i, after in zip(jobs, pool.map(jobs.values()), strict=True):
            episode, before = plays[i][1], at[i].obs
            expected = episode.state[step : step + _PIECE]
            if before is None or not np.array_equal(after.proprio, expected):
                raise _another_simulator(episode, f"leaves its way within step {step + _PIECE}")
            found[i] += [before.images[None], after.looks][: 1 + bool(len(after.looks))]
            at[i] = after
    return [np.concatenate(pictures) for pictures in found]


def _another_simulator(episode: Episode, what: str) -> InputError:
    return InputError(
        f"the replay of {episode.task} from state {episode.seed} {what}: expected the simulator "
        "of the recording (config.json names task options, results.json versions); use that"
    )
