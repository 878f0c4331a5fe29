"""The run folder: where a run's config, metrics, checkpoints, episodes and results lie.

config.json   metrics.jsonl   results.json   report.html
checkpoints/<method>/<step>/   episodes/   videos/   frames/   policy/
"""

import fcntl
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, TypeVar

from pi0_jax.env.suite import Suite
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError, some
from pi0_jax.io.atomic import clean, is_unfinished, write_text
from pi0_jax.io.durable import make_folder
from pi0_jax.io.metrics_writer import MetricsWriter, Progress, import_wandb
from pi0_jax.io.place import check_space, check_writable
from pi0_jax.json_file import read_object
from pi0_jax.plain_file import check_file
from pi0_jax.run.going_back import find_point, free_keys, go_back
from pi0_jax.run.identity import check_own, new_identity
from pi0_jax.run.methods import checkpoints_of
from pi0_jax.run.paired import Paired, paired_from_dict
from pi0_jax.run.same_config import changes
from pi0_jax.run.success import Row, pool_tasks, row_from_dict
from pi0_jax.training.checkpoint import RUN
from pi0_jax.versions import MISSING, SIMULATOR, versions

T = TypeVar("T")

START = "start"
"""Folder of the given checkpoint, where a run keeps it (`apps/own_start.py`)."""

RESULTS, MESSAGES, PROGRESS = 0, 1, 2
"""Levels of `config.verbosity`: each writes more than the level before it."""

_NEEDED_BYTES = 10**9  # episodes, checkpoints and videos of the demo take a third of it
_LOCK = ".lock"


class RunFolder:
    """One run on disk. Everything is written as soon as it is known: interruptions lose little.

    Attributes:
        path: the folder.
        metrics: the open metrics.jsonl.
        rows: results so far, in order.
        paired: comparisons of guidance scales so far, in order.
        protocol: what the results depend on, other than the settings of their evaluation.
        identity: name that no other run has, which its checkpoints bear.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        resume: bool,
        wandb_project: str = "",
        verbosity: int = PROGRESS,
        defaults: Mapping[str, Any] = MappingProxyType({}),
        from_step: int | None = None,
    ):
        """Makes the folder, or opens it to continue.

        Args:
            path: folder of the run (--workdir).
            config: the resolved config as plain values.
            resume: continue the run in the folder.
            wandb_project: also send the metrics to this W&B project; "" for not.
            verbosity: highest level that is written to the console.
            defaults: values of keys that the run's own version did not know.
            from_step: go on from this checkpoint instead of the newest, for which rates may change.

        Raises:
            InputError: the folder holds a run and `resume` is not set, or it holds none and
                `resume` is set; the run there has another config, checkpoints of another run are
                among its own, or another process works on it; one of its files is damaged; the disk
                is full; or wandb is not installed.
        """
        stored = path / "config.json"
        # All checks before the first write, so that a wrong --workdir stays as it is.
        said = _check(path, stored, config, resume, defaults, from_step)
        if wandb_project:
            import_wandb(wandb_project)
        make_folder(path)
        self._lock = _lock(path)
        # Nobody else works here: what is unfinished is of a process that was killed.
        left = clean(path)
        # Written once: every later part of the run is compared with the first.
        if from_step is not None:
            aside = go_back(path, find_point(path, from_step, _done(path)))
            said += [f"set aside: {name}" for name in aside]
            said += [_change_config(stored, config, from_step)]
        if not stored.exists():
            _write(stored, {"command": sys.argv, "config": config, RUN: new_identity()})
        self.identity = _read(stored, RUN, str, "")
        self.path, self._verbosity = path, verbosity
        for line in said:
            self.message(line)
        if left:
            self.message(f"removed what an interruption left unfinished: {some(left, 3)}")
        self.metrics = MetricsWriter(path / "metrics.jsonl", wandb_project or None)
        self._results = path / "results.json"
        self.rows: list[Row] = []
        self.paired: list[Paired] = []
        self.protocol: dict[str, Any] = {}
        if self._results.exists():
            self.rows = _read(self._results, "rows", lambda rows: [row_from_dict(r) for r in rows])
            self.protocol = _read(self._results, "protocol", dict[str, Any])
            # Results of before there were comparisons have none.
            self.paired = _read(
                self._results, "paired", lambda found: [paired_from_dict(p) for p in found], []
            )

    def set_protocol(self, protocol: dict[str, Any]) -> None:
        """Sets the protocol of all results from now on, and stores it.

        Raises:
            InputError: results here were made with another renderer or simulator.
        """
        before, now = _makers(self.protocol), _makers(protocol)
        if self.protocol and before != now:
            raise InputError(
                f"--workdir {self.path}: its results were made with {before}, and this is {now}; "
                "continue with the same, or choose another folder"
            )
        # Entries of earlier evaluations stay until the next evaluation replaces them.
        self.protocol = {**self.protocol, **protocol}
        self.put_rows([])

    def checkpoints(self, method: str) -> Path:
        """Folder of a method's checkpoints."""
        return checkpoints_of(self.path, method)

    def episodes(self, name: str) -> Path:
        """File of some episodes, such as "demonstrations" or "ript/003"."""
        return self.path / "episodes" / f"{name}.npz"

    def put_rows(self, rows: Sequence[Row], paired: Sequence[Paired] = ()) -> None:
        """Appends results, or replaces those of the same setting, and writes results.json."""
        # A resumed run repeats the evaluation that was interrupted: its row must not come twice.
        of = {(r.phase, r.method, r.task, r.guidance, r.reference): r for r in (*self.rows, *rows)}
        self.rows = list(of.values())
        all_pairs = (*self.paired, *paired)
        pairs = {(p.phase, p.method, p.guidance, p.reference): p for p in all_pairs}
        self.paired = list(pairs.values())
        results = {"protocol": self.protocol, "rows": [row.as_dict() for row in self.rows]}
        results["all_tasks"] = [row.as_dict() for row in pool_tasks(self.rows)]
        results["paired"] = [one.as_dict() for one in self.paired]
        _write(self._results, results)

    def log(self, step: int, phase: str, method: str, **values: Any) -> None:
        """Writes one line of metrics.jsonl."""
        self.metrics.write(step, phase, method=method, **values)

    def rewind(self, phase: str, method: str, last: int, key: str = "step") -> None:
        """Deletes the metrics that a resumed run writes again; arguments as in `MetricsWriter`."""
        self.metrics.rewind(phase, method, last, key)

    def message(self, text: str, level: int = MESSAGES) -> None:
        """Writes one line to the console, with the time of day."""
        if level <= self._verbosity:
            sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")

    def progress(self, phase: str, total: int, done: int = 0) -> Progress:
        """A progress line on the console."""
        # Also in a quiet run, into a buffer that nobody reads: callers need no case for it.
        stream = sys.stderr if self._verbosity >= PROGRESS else io.StringIO()
        return Progress(phase, total, stream, done=done)


def is_run(path: Path) -> bool:
    """Whether a run has begun in a folder, so that it can be resumed."""
    try:
        return (path / "config.json").exists() or (path / _LOCK).exists()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def success_text(episodes: Sequence[Episode]) -> str:
    """Successes among the episodes that have ended so far, such as "ok 31/48"."""
    errors = sum(episode.error is not None for episode in episodes)
    text = f"ok {sum(e.success for e in episodes)}/{len(episodes) - errors}"
    return f"{text}, {errors} errors" if errors else text


def protocol(suite: Suite, renderer: str) -> dict[str, Any]:
    """Everything that a success rate depends on, other than the settings of its evaluation."""
    return {
        "suite": suite.name,
        "tasks": [repr(task) for task in suite.tasks],
        "instructions": {task.name: task.instruction for task in suite.tasks},
        "step_limits": {task.name: task.max_steps for task in suite.tasks},
        "settle_steps": {task.name: task.settle_steps for task in suite.tasks},
        "renderer": renderer,
        "assets": suite.assets,
        "versions": versions(),
    }


def _makers(protocol: dict[str, Any]) -> dict[str, str]:
    """Versions of what makes states and images, assets and renderer, if a protocol names them."""
    # Other versions, such as that of jax, may change in a run: they do not change the task.
    named = {**protocol.get("versions", {}), **protocol}
    makers = {name: named.get(name) for name in (*SIMULATOR, "assets", "renderer")}
    return {name: made for name, made in makers.items() if made and made != MISSING}


def _check(
    path: Path,
    stored: Path,
    config: dict[str, Any],
    resume: bool,
    defaults: Mapping[str, Any],
    from_step: int | None,
) -> list[str]:
    """All checks before the first write; returns lines about what differs and may."""
    if path.exists() and not path.is_dir():
        raise InputError(f"--workdir {path}: is a file; name a folder")
    # In a run that exists the files are made in the folder itself, not beside it.
    check_writable(stored if path.exists() else path)
    check_space(path, _NEEDED_BYTES, "a run")
    if not stored.exists():
        others = [child for child in path.iterdir() if not _ours(child)] if path.exists() else []
        if others:
            raise InputError(f"--workdir {path}: is not empty and holds no run; name a new folder")
        # A run that was killed at its first write is one, of which nothing is done yet.
        if resume and not (path / _LOCK).exists():
            raise InputError(f"--workdir {path}: expected a run to resume, found none")
        return []
    if not resume:
        raise InputError(
            f"--workdir {path}: holds a run already; add --resume to continue it, or choose "
            "another folder"
        )
    before = _read(stored, "config", dict[str, Any])
    check_own(path, _read(stored, RUN, str, ""))
    # Through JSON, as the stored one went: tuples become lists and keys text.
    after, known = (json.loads(json.dumps(dict(values))) for values in (config, defaults))
    free: tuple[str, ...] = ()
    if from_step is not None:
        done = _done(path)
        free = free_keys(find_point(path, from_step, done), done, before.get("baselines", {}))
    refused, allowed = changes(before, after, known, free)
    if refused:
        what = "; ".join(f"{key}: {change}" for key, change in refused.items())
        raise InputError(
            f"--workdir {path}: the run there has another config ({what}); resume with the same "
            "one, or choose another folder"
        )
    return [f"config.{key}: {change}" for key, change in allowed.items()]


def _done(path: Path) -> set[str]:
    """Methods that have results."""
    results = path / "results.json"
    rows = _read(results, "rows", list) if results.exists() else []
    return {row["method"] for row in rows}


def _change_config(stored: Path, config: dict[str, Any], step: int) -> str:
    """Stores a config with other rates; the earlier ones stay in the file, with their command."""
    values = read_object(stored)
    now = {"command": values["command"], "config": values["config"], "until_step": step}
    earlier = [*values.get("earlier", []), now]
    _write(stored, {**values, "command": sys.argv, "config": config, "earlier": earlier})
    return f"going on from checkpoint {step}; the config until there stays in {stored.name}"


def _ours(path: Path) -> bool:
    """Whether a run that was killed before it had a config left this."""
    return path.name == _LOCK or is_unfinished(path)


def _lock(folder: Path) -> TextIO:
    """Locks the run until the process ends, also by a kill; two processes would damage the run.

    Raises:
        InputError: another process holds it, or it is no plain file.
    """
    check_file(folder / _LOCK)
    file = (folder / _LOCK).open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InputError(f"--workdir {folder}: another process is working on this run") from error
    except OSError:
        # A file system without locks: the user must take care.
        pass
    return file


def _read(path: Path, key: str, parse: Callable[[Any], T], default: Any = None) -> T:
    """One entry of a JSON file of the run, which must be there unless it has a default.

    Raises:
        InputError: the file is damaged.
    """
    try:
        values = read_object(path)
        return parse(values[key] if default is None else values.get(key, default))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error}); restore it or choose another folder"
        ) from error


def _write(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")
