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
    """Writes videos/*.mp4 and frames/*.png of the same initial states under every arm.

    Args:
        session: of the run.
        arms: to film, in the order of the report; before and after RL, or one policy alone.
        guidance: scale of the stored evaluations to choose from.
        each: states of each kind: newly solved by the last arm, solved by the first, failed by
            the last.
    """
    run = session.run
    of_arm = {arm: load_episodes(run.episodes(f"eval/{arm}_{guidance:g}")) for arm in arms}
    chosen = _choose(of_arm[arms[0]], of_arm[arms[-1]], each)
    tasks = {task.name: task for task in session.suite.tasks}
    videos, stills = [], []
    for arm, episodes in of_arm.items():
        shown = [(tasks[episodes[i].task], episodes[i]) for i in chosen]
        films = replay(session.pool, shown, frame_every=1)
        for (_, episode), frames in zip(shown, films, strict=True):
            videos.append(_write_video(run.path / "videos", arm, episode, frames))
            stills.append(_write_stills(run.path / "frames", arm, episode, frames))
    for folder, index in (("videos", videos), ("frames", stills)):
        (run.path / folder).mkdir(exist_ok=True)
        (run.path / folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _choose(before: Sequence[Episode], after: Sequence[Episode], each: int) -> list[int]:
    """Indices of states worth seeing, each once; the two evaluations share their states."""
    pairs = [
        (index, first.success, last.success)
        for index, (first, last) in enumerate(zip(before, after, strict=True))
        if first.error is None and last.error is None
    ]
    solved = [index for index, first, last in pairs if last and not first]
    easy = [index for index, first, last in pairs if first]
    failed = [index for index, first, last in pairs if not last]
    return list(dict.fromkeys([*solved[:each], *easy[:each], *failed[:each]]))


def _outcome(episode: Episode) -> str:
    return "success" if episode.success else "failure"


def _name(arm: str, episode: Episode) -> str:
    return f"{arm}_{episode.task}_{episode.seed}_{_outcome(episode)}"


def _write_video(folder: Path, arm: str, episode: Episode, frames: np.ndarray) -> dict[str, str]:
    captions = [
        f"{arm}  {episode.prompt}\nstep {step + 1}/{len(episode)}  "
        f"{_outcome(episode) if step + 1 == len(frames) else ''}"
        for step in range(len(frames))
    ]
    name = f"{_name(arm, episode)}.mp4"
    write_video(folder / name, frames, CONTROL_HZ, captions)
    return {
        "file": name,
        "title": f"{episode.prompt}, initial state {episode.seed}",
        "phase": "eval",
        "arm": arm,
        "outcome": _outcome(episode),
        "caption": f"{len(episode)} control steps",
    }


def _write_stills(folder: Path, arm: str, episode: Episode, frames: np.ndarray) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.linspace(0, len(frames) - 1, _STILLS).round().astype(int)
    name = f"{_name(arm, episode)}.png"
    imageio.imwrite(folder / name, np.concatenate(frames[chosen], axis=1))
    caption = f"{arm}, initial state {episode.seed}: {_outcome(episode)}"
    return {"file": name, "caption": caption, "group": arm}
