"""Videos and still pictures of the same evaluation states before RL, after it, and with guidance.

Axis letters: f frame, h height, w width.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from pi0_jax.env.base import Task
from pi0_jax.episode import Episode
from pi0_jax.io.atomic import atomic_file, write_text
from pi0_jax.io.video import write_video
from pi0_jax.rollout.collect import replay
from pi0_jax.rollout.episode_log import evaluation_log
from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.run.session import Session

HOLD_SECONDS = 1  # the last picture stays, with the outcome
_SOME_HZ = 20  # of a robot whose rate nobody said; only the speed of its videos depends on it
MOST_STATES = 20  # for any number of tasks: a video of LIBERO takes minutes in software
_STILLS = 6  # pictures in a row


@dataclass(frozen=True)
class Acting:
    """What acts in some videos: one stored evaluation of the run.

    Attributes:
        method: name of the method.
        guidance: how it was guided.
    """

    method: str
    guidance: Guidance

    @property
    def file_name(self) -> str:
        """Begins the names of its videos: "ript", "ript-w3"."""
        plain = self.guidance == PLAIN
        return self.method if plain else f"{self.method}-w{self.guidance.suffix}"

    @property
    def guidance_words(self) -> str:
        """For captions: "guidance 3 from base"; empty for the policy as it is."""
        return "" if self.guidance == PLAIN else str(self.guidance)


def record_videos(session: Session, acting: Sequence[Acting], each: int) -> None:
    """Writes videos/*.mp4 and frames/*.png of the same initial states, whatever acts.

    Files that exist already are kept.

    Args:
        session: session of the run.
        acting: the evaluations to show, in the order in which they stand side by side.
        each: number of states per task and kind: newly solved by an evaluation and not by the one
            before it, solved by the first, failed by the last; at most `MOST_STATES` in all.
    """
    run = session.run
    stored = [evaluation_log(run, one.method, one.guidance).load() for one in acting]
    shown = [
        (one, episodes[index])
        for index in _choose(stored, each)
        for one, episodes in zip(acting, stored, strict=True)
    ]
    _film_missing(session, shown)
    # A simulator that failed left some without a video: the indices list what exists.
    shown = [one for one in shown if _video_file(run.path, *one).exists()]
    for folder, ending in (("videos", "mp4"), ("frames", "png")):
        index = [
            {"file": f"{_name(one, episode)}.{ending}", **_entry(one, episode)}
            for one, episode in shown
        ]
        write_text(run.path / folder / "index.json", json.dumps(index, indent=1) + "\n")


def _film_missing(session: Session, shown: Sequence[tuple[Acting, Episode]]) -> None:
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
            for (one, episode), frames in zip(block, films, strict=True):
                _write_stills(path / "frames", one, episode, frames)
                _write_video(path, one, episode, frames)
            progress.update(first + len(block))


def _choose(stored: Sequence[Sequence[Episode]], each: int) -> list[int]:
    """Chooses states to show and returns their indices; all evaluations have the same states.

    Tasks take turns, and so do the kinds within a task.
    """
    of_task: dict[str, list[tuple[int, tuple[bool, ...]]]] = {}
    for index, episodes in enumerate(zip(*stored, strict=True)):
        states = of_task.setdefault(episodes[0].task, [])
        if all(episode.error is None for episode in episodes):
            states.append((index, tuple(episode.success for episode in episodes)))
    turns = zip_longest(*(_of_one_task(states, each) for states in of_task.values()))
    chosen = (index for index in chain.from_iterable(turns) if index is not None)
    return list(dict.fromkeys(chosen))[:MOST_STATES]


def _of_one_task(states: Sequence[tuple[int, tuple[bool, ...]]], each: int) -> list[int]:
    """Indices out of (index, success of each evaluation), the kinds taking turns."""
    # Newly solved by one after the other, solved before, failed in the end; a state can be of two.
    last = max((len(successes) for _, successes in states), default=0)
    kinds = [[i for i, ok in states if ok[k] and not ok[k - 1]] for k in range(1, last)]
    kinds.append([i for i, ok in states if ok[0]])
    kinds.append([i for i, ok in states if not ok[-1]])
    turns = zip_longest(*(kind[:each] for kind in kinds))
    return list(dict.fromkeys(i for i in chain.from_iterable(turns) if i is not None))


def _outcome(episode: Episode) -> str:
    return "success" if episode.success else "failure"


def _name(one: Acting, episode: Episode) -> str:
    return f"{one.file_name}_{episode.task}_{episode.seed}_{_outcome(episode)}"


def _video_file(run: Path, one: Acting, episode: Episode) -> Path:
    return run / "videos" / f"{_name(one, episode)}.mp4"


def _entry(one: Acting, episode: Episode) -> dict[str, str]:
    """What a report says of a video or a row of pictures, but for its file."""
    return {
        "title": f"{episode.prompt}, initial state {episode.seed}",
        # What shows one state stands together; two tasks may have one prompt.
        "state": f"{episode.task} {episode.seed}",
        "method": one.method,
        "guidance": one.guidance_words,
        "outcome": _outcome(episode),
        "caption": f"{len(episode)} control steps",
    }


def _write_video(run: Path, one: Acting, episode: Episode, frames: np.ndarray) -> None:
    """Writes frames uint8[f, h, w, 3] with captions; the last one is held."""
    captions = [
        f"{episode.prompt}\n{one.file_name}  step {step + 1}/{len(episode)}"
        for step in range(len(frames))
    ]
    rate = round(episode.robot.control_hz or _SOME_HZ)
    hold = HOLD_SECONDS * rate
    end = [f"{captions[-1]}  {_outcome(episode)}"] * hold
    held = np.concatenate([frames, frames[-1:].repeat(hold, axis=0)])  # uint8[f + hold, h, w, 3]
    write_video(_video_file(run, one, episode), held, rate, captions + end)


def _write_stills(folder: Path, one: Acting, episode: Episode, frames: np.ndarray) -> None:
    """Writes one picture of `_STILLS` frames of uint8[f, h, w, 3]."""
    # Equally spaced in time, first and last included; side by side in one picture.
    chosen = np.linspace(0, len(frames) - 1, _STILLS).round().astype(int)
    with atomic_file(folder / f"{_name(one, episode)}.png") as partial:
        strip = np.concatenate(frames[chosen], axis=1)  # [h, _STILLS w, 3]
        imageio.imwrite(partial, strip, extension=".png")
