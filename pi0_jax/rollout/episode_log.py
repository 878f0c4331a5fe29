"""An evaluation's episodes on disk, each the moment it ends, so that an interruption loses none.

While it runs every episode is a file of its own in NAME.parts/ and a line in NAME.jsonl; at the
end they become NAME.npz, and the lines are put in order.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_jax.episode import Episode
from pi0_jax.io.atomic import write_text
from pi0_jax.io.episodes import load_episodes, save_episodes

Key = tuple[str, int]
"""Name of the task and seed of the initial state; an evaluation visits each once."""


def key(episode: Episode) -> Key:
    """What tells this episode from the others of an evaluation."""
    return episode.task, episode.seed


@dataclass(frozen=True)
class EpisodeLog:
    """The files of one evaluation.

    Attributes:
        path: NAME.npz.
    """

    path: Path

    @property
    def _parts(self) -> Path:
        return self.path.with_suffix(".parts")

    @property
    def _lines(self) -> Path:
        return self.path.with_suffix(".jsonl")

    def begin(self) -> dict[Key, Episode]:
        """The episodes that are there already; those that the simulator spoiled do not count.

        Lines of other episodes, and one that was cut short, are dropped.

        Raises:
            InputError: a file is damaged.
        """
        files = [self.path] * self.path.exists() + sorted(self._parts.glob("*.npz"))
        stored = [episode for file in files for episode in load_episodes(file)]
        known = {key(episode): episode for episode in stored if episode.error is None}
        self._write_lines(known.values())
        return known

    def add(self, episode: Episode) -> None:
        """Stores an episode that has just ended: its file first, then the line that tells of it."""
        save_episodes(self._parts / f"{episode.task}_{episode.seed}.npz", [episode])
        with self._lines.open("a") as file:
            file.write(_line(episode))

    def finish(self, episodes: Sequence[Episode]) -> None:
        """Makes one file of all episodes, with their lines in this order."""
        save_episodes(self.path, episodes)
        self._write_lines(episodes)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _write_lines(self, episodes: Iterable[Episode]) -> None:
        write_text(self._lines, "".join(map(_line, episodes)))


def _line(episode: Episode) -> str:
    """One JSON object: what a person wants to search."""
    values = {
        "task": episode.task,
        "seed": episode.seed,
        "init_hash": episode.init_hash,
        "success": episode.success,
        "steps": len(episode),
        "error": episode.error,
    }
    return json.dumps(values) + "\n"
