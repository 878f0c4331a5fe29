"""Videos and stills of chosen evaluation episodes, before and after RL."""

import json
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from pi0_jax.episode import Episode, load_episodes
from pi0_jax.rl.rollout import replay
from pi0_jax.session import Session
from pi0_jax.video import write_video

CONTROL_HZ = 20
_STILLS = 6


def film(session: Session, arms: Sequence[str], guidance: float, each: int) -> None:
    """Writes videos/*.mp4 of `each` successes and failures of every arm, and a strip of stills.

    Args:
        session: of the run.
        arms: to film, in the order of the report.
        guidance: scale of the stored evaluation to choose from.
        each: videos an arm and outcome, fewer where there are not so many.
    """
    index = []
    for arm in arms:
        episodes = load_episodes(session.run.episodes(f"eval/{arm}_{guidance:g}"))
        chosen = _choose(episodes, each)
        task = {task.name: task for task in session.suite.tasks}
        for episode in chosen:
            frames = replay(session.pool, task[episode.task], [episode], frame_every=1)[0]
            index.append(_write(session.run.path, arm, episode, frames))
    (session.run.path / "videos" / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _choose(episodes: Sequence[Episode], each: int) -> list[Episode]:
    """The first successes and the first failures, without errors."""
    valid = [episode for episode in episodes if episode.error is None]
    successes = [episode for episode in valid if episode.success][:each]
    return successes + [episode for episode in valid if not episode.success][:each]


def _write(run: Path, arm: str, episode: Episode, frames: np.ndarray) -> dict[str, str]:
    outcome = "success" if episode.success else "failure"
    name = f"{arm}_{episode.task}_{episode.seed}_{outcome}"
    captions = [
        f"{arm}  {episode.prompt}\nstep {step + 1}/{len(episode)}  "
        f"{outcome if step + 1 == len(frames) else ''}"
        for step in range(len(frames))
    ]
    write_video(run / "videos" / f"{name}.mp4", frames, CONTROL_HZ, captions)
    _write_stills(run / "frames", name, frames)
    return {
        "file": f"{name}.mp4",
        "title": f"{episode.prompt}, initial state {episode.seed}",
        "phase": "eval",
        "arm": arm,
        "outcome": outcome,
        "caption": f"{len(episode)} control steps",
    }


def _write_stills(folder: Path, name: str, frames: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.linspace(0, len(frames) - 1, _STILLS).round().astype(int)
    imageio.imwrite(folder / f"{name}.png", np.concatenate(frames[chosen], axis=1))
