"""Episodes of one evaluation on disk, each stored when it ends: an interruption loses none.

Demonstrations are stored in the same way. While they are made, every episode is a file in
NAME.parts/ and a line in NAME.jsonl. At the end the files become one file NAME.npz, and the lines
are put in order.

Of several hosts the first alone reads and writes: what others have made it stores when they give
it to all.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_jax.episode import Episode
from pi0_jax.hosts import talk
from pi0_jax.io.atomic import write_text
from pi0_jax.io.episodes import VISIBLE, load_episodes, save_episodes
from pi0_jax.io.shared_episodes import of_first_host
from pi0_jax.listing import entries
from pi0_jax.rollout.guidance import Guidance
from pi0_jax.run.folder import RunFolder

Key = tuple[str, int]
"""Name of the task and seed of the initial state; an evaluation visits each once."""


def key(episode: Episode) -> Key:
    """The key of an episode among the others of its evaluation."""
    return episode.task, episode.seed


@dataclass(frozen=True)
class EpisodeLog:
    """The files of one evaluation.

    Attributes:
        path: path of NAME.npz; the other files are next to it.
    """

    path: Path

    @property
    def _name(self) -> str:
        """What its files say they are of, such as "eval/ript_1"."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def _parts(self) -> Path:
        return self.path.with_suffix(".parts")

    @property
    def _lines(self) -> Path:
        return self.path.with_suffix(".jsonl")

    @property
    def unfinished(self) -> bool:
        """Whether `finish` is still to be done: it was not begun, or was interrupted."""
        return talk.first(self._is_unfinished)

    def _is_unfinished(self) -> bool:
        return self._parts.exists() or not self.path.exists()

    def begin(self) -> dict[Key, Episode]:
        """Loads the stored episodes; those with an error of the simulator are left out.

        Other lines of NAME.jsonl, and a line that was cut off, are dropped.

        Raises:
            InputError: a file is damaged, or of another evaluation.
        """
        return {key(episode): episode for episode in of_first_host(self._stored)}

    def _stored(self) -> list[Episode]:
        # Both may exist: an interruption can come after NAME.npz and before the parts are removed.
        files = [self.path] * self.path.exists() + entries(self._parts, VISIBLE)
        stored = [episode for file in files for episode in load_episodes(file, self._name)]
        known = {key(episode): episode for episode in stored if episode.error is None}
        self._write_lines(known.values())
        return list(known.values())

    def load(self) -> list[Episode]:
        """The episodes of NAME.npz, all of which have ended.

        Raises:
            InputError: the file is missing, damaged, or of another evaluation.
        """
        return load_episodes(self.path, self._name)

    def add(self, episode: Episode) -> None:
        """Stores an episode that has just ended: first its file, then its line."""
        if not talk.leads():
            return
        save_episodes(self._parts / f"{episode.task}_{episode.seed}.npz", [episode], self._name)
        with self._lines.open("a") as file:
            file.write(_line(episode))

    def add_new(self, ended: Iterable[Episode], known: dict[Key, Episode]) -> None:
        """Stores the episodes that are not in `known`, and puts them there."""
        for episode in ended:
            if key(episode) not in known:
                self.add(episode)
                known[key(episode)] = episode

    def finish(self, episodes: Sequence[Episode]) -> None:
        """Makes one file of all episodes, with their lines in this order.

        It may be called again: where all is done nothing is written.
        """
        talk.first(lambda: self._finish(episodes))

    def _finish(self, episodes: Sequence[Episode]) -> None:
        if not self._is_unfinished():
            return
        save_episodes(self.path, episodes, self._name)
        self._write_lines(episodes)
        # Last: until here every episode is in at least one of the two places.
        shutil.rmtree(self._parts, ignore_errors=True)

    def _write_lines(self, episodes: Iterable[Episode]) -> None:
        write_text(self._lines, "".join(map(_line, episodes)))


def evaluation_log(run: RunFolder, method: str, guidance: Guidance) -> EpisodeLog:
    """The files of the evaluation of a method of this run, guided like this."""
    return EpisodeLog(run.episodes(f"eval/{method}_{guidance.suffix}"))


def _line(episode: Episode) -> str:
    """One JSON object with what a person wants to search for."""
    values = {
        "task": episode.task,
        "seed": episode.seed,
        "init_hash": episode.init_hash,
        "success": episode.success,
        "steps": len(episode),
        "error": episode.error,
    }
    return json.dumps(values) + "\n"
