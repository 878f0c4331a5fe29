"""Videos and still pictures of chosen evaluation episodes, before and after RL.

Axis letters: f frame, h height, w width.
"""

import json
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from pi0_jax.env.base import Task
from pi0_jax.episode import Episode
from pi0_jax.io.atomic import atomic_file, write_text
from pi0_jax.io.episodes import load_episodes
from pi0_jax.io.video import write_video
from pi0_jax.rollout.collect import replay
from pi0_jax.rollout.guidance import Guidance
from pi0_jax.run.session import Session

HOLD_SECONDS = 1  # the last picture stays, with the outcome
_SOME_HZ = 20  # of a robot whose rate nobody said; only the speed of its videos depends on it
MOST_STATES = 20  # for any number of tasks: a video of LIBERO takes minutes in software
_STILLS = 6  # pictures in a row


def record_videos(session: Session, methods: Sequence[str], guidance: Guidance, each: int) -> None:
    """Writes videos/*.mp4 and frames/*.png of the same initial states under every method.

    Files that exist already are kept.

    Args:
        session: session of the run.
        methods: methods to show, in the order of the report; before and after RL, or one alone.
        guidance: of the stored evaluations to choose from.
        each: number of states per task and kind: newly solved by the last method, solved by the
            first, failed by the last; at most `MOST_STATES` in all.
    """
    run = session.run
    of_method = {
        method: load_episodes(run.episodes(f"eval/{method}_{guidance.suffix}"))
        for method in methods
    }
    chosen = _choose(of_method[methods[0]], of_method[methods[-1]], each)
    shown = [
        (method, episodes[index]) for method, episodes in of_method.items() for index in chosen
    ]
    _film_missing(session, shown)
    # A simulator that failed left some without a video: the indices list what exists.
    shown = [one for one in shown if _video_file(run.path, *one).exists()]
    videos = [_video_entry(method, episode) for method, episode in shown]
    stills = [_still_entry(method, episode) for method, episode in shown]
    for folder, index in (("videos", videos), ("frames", stills)):
        write_text(run.path / folder / "index.json", json.dumps(index, indent=1) + "\n")


def _film_missing(session: Session, shown: Sequence[tuple[str, Episode]]) -> None:
    """Replays the episodes without a video, as many at a time as there are simulators.

    If a simulator fails, its block of videos is missing; results are not affected.
    """
    tasks: dict[str, Task] = {task.name: task for task in session.suite.tasks}
    path, at_once = session.run.path, session.pool.workers
    missing = [one for one in shown if not _video_file(path, *one).exists()]
    with session.run.progress("videos", len(missing)) as progress:
        for first in range(0, len(missing), at_once):
            block = missing[first : first + at_once]
            plays = [(tasks[episode.task], episode) for _, episode in block]
            try:
                films = replay(session.pool, plays, 1)
            except RuntimeError as error:
                session.run.message(f"warning: {len(block)} videos could not be filmed: {error}")
                continue
            # The video last: `_film_missing` takes an episode with a video for done.
            for (method, episode), frames in zip(block, films, strict=True):
                _write_stills(path / "frames", method, episode, frames)
                _write_video(path, method, episode, frames)
            progress.update(first + len(block))


def _choose(before: Sequence[Episode], after: Sequence[Episode], each: int) -> list[int]:
    """Chooses states to show and returns their indices; both evaluations have the same states.

    Tasks take turns, and so do the kinds within a task.
    """
    of_task: dict[str, list[tuple[int, bool, bool]]] = {}
    for index, (first, last) in enumerate(zip(before, after, strict=True)):
        states = of_task.setdefault(first.task, [])
        if first.error is None and last.error is None:
            states.append((index, first.success, last.success))
    turns = zip_longest(*(_of_one_task(states, each) for states in of_task.values()))
    chosen = (index for index in chain.from_iterable(turns) if index is not None)
    return list(dict.fromkeys(chosen))[:MOST_STATES]


def _of_one_task(states: Sequence[tuple[int, bool, bool]], each: int) -> list[int]:
    """Indices out of (index, success before, success after), the kinds taking turns."""
    # Newly solved, solved before, and failed after; a state can be of two kinds.
    solved = [index for index, first, last in states if last and not first]
    easy = [index for index, first, last in states if first]
    failed = [index for index, first, last in states if not last]
    turns = zip_longest(solved[:each], easy[:each], failed[:each])
    return list(dict.fromkeys(i for i in chain.from_iterable(turns) if i is not None))


def _outcome(episode: Episode) -> str:
    return "success" if episode.success else "failure"


def _name(method: str, episode: Episode) -> str:
    return f"{method}_{episode.task}_{episode.seed}_{_outcome(episode)}"


def _video_file(run: Path, method: str, episode: Episode) -> Path:
    return run / "videos" / f"{_name(method, episode)}.mp4"


def _video_entry(method: str, episode: Episode) -> dict[str, str]:
    return {
        "file": f"{_name(method, episode)}.mp4",
        "title": f"{episode.prompt}, initial state {episode.seed}",
        "phase": "eval",
        "method": method,
        "outcome": _outcome(episode),
        "caption": f"{len(episode)} control steps",
    }


def _write_video(run: Path, method: str, episode: Episode, frames: np.ndarray) -> None:
    """Writes frames uint8[f, h, w, 3] with captions; the last one is held."""
    captions = [
        f"{episode.prompt}\n{method}  step {step + 1}/{len(episode)}" for step in range(len(frames))
    ]
    rate = round(episode.robot.control_hz or _SOME_HZ)
    hold = HOLD_SECONDS * rate
    end = [f"{captions[-1]}  {_outcome(episode)}"] * hold
    held = np.concatenate([frames, frames[-1:].repeat(hold, axis=0)])  # uint8[f + hold, h, w, 3]
    write_video(_video_file(run, method, episode), held, rate, captions + end)


def _still_entry(method: str, episode: Episode) -> dict[str, str]:
    caption = f"{episode.task}, initial state {episode.seed}: {_outcome(episode)}"
    return {"file": f"{_name(method, episode)}.png", "caption": caption, "group": method}


def _write_stills(folder: Path, method: str, episode: Episode, frames: np.ndarray) -> None:
    """Writes one picture of `_STILLS` frames of uint8[f, h, w, 3]."""
    # Equally spaced in time, first and last included; side by side in one picture.
    chosen = np.linspace(0, len(frames) - 1, _STILLS).round().astype(int)
    with atomic_file(folder / f"{_name(method, episode)}.png") as partial:
        strip = np.concatenate(frames[chosen], axis=1)  # [h, _STILLS w, 3]
        imageio.imwrite(partial, strip, extension=".png")
