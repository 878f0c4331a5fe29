"""Power cuts at every recorded change, in every order of `disk.py`: is what is left still a run?

Two checks of each state: every file with a name is one that a process had finished, and the code
of a resumed run opens all of it, with at most one save repeated. A sample is resumed to the end.
"""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.policy.folder import load_policy
from pi0_jax.rollout.episode_log import EpisodeLog
from pi0_jax.run.folder import RunFolder
from pi0_jax.training import checkpoint
from pi0_jax.training.recovery import recover
from torture.disk import Cut, Tree, write_tree
from torture.kills import unread

_GROWS = ".jsonl"  # files that are appended to, line by line
_POLICIES = ("base", "policy")


@dataclass(frozen=True)
class Progress:
    """What a resumed run would go on from.

    Attributes:
        checkpoints: folder of checkpoints -> the names of those in it, oldest first.
        episodes: name of an evaluation -> number of its episodes.
        lines: of metrics.jsonl.
    """

    checkpoints: dict[str, list[str]]
    episodes: dict[str, int]
    lines: int


def torn(tree: Tree, finished: Mapping[str, set[bytes]]) -> list[str]:
    """Names of files that are not as a process had finished them.

    Args:
        tree: what is on the disk.
        finished: name -> every content under which a process saw it.
    """
    found = []
    for name, content in tree.items():
        if content is None or any(map(unread, PurePath(name).parts)):
            continue
        # Of what follows the last line end nothing is read.
        whole = content.rpartition(b"\n")[0] if name.endswith(_GROWS) else content
        if name.endswith(_GROWS):
            good = any(seen.startswith(whole) for seen in finished[name])
        else:
            good = whole in finished[name]
        found += [] if good else [name]
    return found


def contents(cuts: Sequence[Cut]) -> dict[str, set[bytes]]:
    """Every content of every file that a process saw under its name."""
    found: dict[str, set[bytes]] = {}
    for cut in cuts:
        for name, content in cut.whole.items():
            if content is not None:
                found.setdefault(name, set()).add(content)
    return found


def reopened(run: Path, config: dict[str, Any]) -> tuple[Progress, list[str]]:
    """Opens a run as `--resume` does; returns what is there, and warnings.

    Raises:
        InputError: it cannot be resumed.
    """
    said: list[str] = []
    resume = (run / ".lock").exists() or (run / "config.json").exists()
    with contextlib.redirect_stderr(io.StringIO()):
        RunFolder(run, config, resume, verbosity=0).metrics.close()
    folders = [run / "checkpoints", *run.glob("baselines/*/checkpoints")]
    checkpoints = {}
    for folder in folders:
        for phase in ("rl", "sft"):
            recover(folder, phase, said.append)
        saved = checkpoint.saved(folder)
        checkpoints[str(folder.relative_to(run))] = [path.name for path in saved]
    for name in _POLICIES:
        if (run / name).exists():
            load_policy(run / name)
    logs = {path.with_suffix(".npz") for path in run.glob("episodes/**/*.jsonl")}
    episodes = {str(path.relative_to(run)): len(EpisodeLog(path).begin()) for path in sorted(logs)}
    return Progress(checkpoints, episodes, len(read_metrics(run / "metrics.jsonl"))), said


def lost(before: Progress, after: Progress) -> list[str]:
    """What a power cut took, beyond one save under way and one episode of each evaluation."""
    found = []
    for folder, names in before.checkpoints.items():
        # The newest may be one whose name was not waited for yet.
        if len(names) > 1 and not {*names[-2:]} & {*after.checkpoints.get(folder, ())}:
            found.append(f"{folder}: {names} -> {after.checkpoints.get(folder)}")
    for name, count in before.episodes.items():
        if after.episodes.get(name, 0) < count - 1:
            found.append(f"{name}: {count} -> {after.episodes.get(name, 0)} episodes")
    if after.lines < before.lines - 1:
        found.append(f"metrics.jsonl: {before.lines} -> {after.lines} lines")
    return found


class Checker:
    """Checks states of one recorded run; equal states once."""

    def __init__(self, work: Path, run: str, config: dict[str, Any]) -> None:
        """Takes the root, which is made anew for each state, and the run's name in it."""
        self._work, self._run, self._config = work, run, config
        self._known: dict[frozenset[tuple[str, bytes | None]], tuple[Any, list[str]]] = {}

    def check(self, cut: Cut, finished: Mapping[str, set[bytes]]) -> list[str]:
        """What is wrong with a state; empty for nothing."""
        wrong = [f"torn {name}" for name in torn(cut.tree, finished)]
        before, _ = self._open(cut.whole)
        after, said = self._open(cut.tree)
        if before is None or after is None:
            return [*wrong, *said]
        return [*wrong, *said, *lost(before, after)]

    def _open(self, tree: Tree) -> tuple[Progress | None, list[str]]:
        key = frozenset(_visible(tree))
        if key not in self._known:
            shutil.rmtree(self._work, ignore_errors=True)
            write_tree(self._work, tree)
            try:
                self._known[key] = reopened(self._work / self._run, self._config)
            except InputError as error:
                self._known[key] = None, [str(error)]
        return self._known[key]


def _visible(tree: Tree) -> Iterator[tuple[str, bytes | None]]:
    for name, content in tree.items():
        hidden = [unread(part) for part in PurePath(name).parts]
        if not any(hidden):
            yield name, content
        elif not any(hidden[:-1]):
            yield name, None


def stored_config(tree: Tree, run: str) -> dict[str, Any]:
    """The config that the run in a tree stores."""
    content = tree[f"{run}/config.json"]
    assert content is not None
    return json.loads(content)["config"]
