"""The run folder as the hosts know it: the first reads and writes it, the others follow."""

import hashlib
import io
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.metrics_writer import Progress
from pi0_jax.run.folder import MESSAGES, PROGRESS, RunFolder
from pi0_jax.run.paired import Paired
from pi0_jax.run.same_config import without_places
from pi0_jax.run.success import Row
from pi0_jax.versions import SIMULATOR, versions


class FollowedRun(RunFolder):
    """The run on a host that is not the first: it has names, and nothing is read or written.

    Its folder may lie on a disk of another machine.
    """

    def __init__(self, path: Path):
        self.path, self.identity = path, ""
        self.rows, self.paired, self.protocol = [], [], {}

    def set_protocol(self, protocol: dict[str, Any]) -> None:
        """Keeps it."""
        self.protocol = protocol

    def put_rows(self, rows: Sequence[Row], paired: Sequence[Paired] = ()) -> None:
        """The first host has the same."""

    def log(self, step: int, phase: str, method: str, **values: Any) -> None:
        """The first host has the same."""

    def rewind(self, phase: str, method: str, last: int, key: str = "step") -> None:
        """There is nothing."""

    def message(self, text: str, level: int = MESSAGES) -> None:
        """The first host says it."""

    def progress(self, phase: str, total: int, done: int = 0) -> Progress:
        """A line that nobody sees."""
        return Progress(phase, total, io.StringIO(), done=done)


def open_run(
    path: Path,
    config: dict[str, Any],
    resume: bool,
    wandb_project: str = "",
    verbosity: int = PROGRESS,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    from_step: int | None = None,
    made_with: Mapping[str, Any] = MappingProxyType({}),
) -> RunFolder:
    """Opens the run on every host.

    Args:
        path: as `RunFolder`, and so are all but the last.
        config: plain values.
        resume: continue the run in the folder.
        wandb_project: a W&B project, or "".
        verbosity: highest level that is written to the console.
        defaults: values of keys that the run's own version did not know.
        from_step: go on from this checkpoint.
        made_with: what else must be alike on all hosts, such as the renderer.

    Raises:
        InputError: as `RunFolder`; or the hosts differ in what results depend on.
    """
    check_alike({**config, **made_with})
    folder = None
    if talk.leads():
        folder = RunFolder(path, config, resume, wandb_project, verbosity, defaults, from_step)
    # A run that the first host refuses begins on none.
    talk.barrier()
    return folder or FollowedRun(path)


def check_alike(values: Mapping[str, Any]) -> None:
    """Checks that all hosts have the same input and the same programs.

    Where a policy or a data set lies may differ, as long as its digest does not.

    Args:
        values: of this host: its whole config, and what else results depend on.

    Raises:
        InputError: they differ; the message names the first host and key ("rl.batch_size") that do.
    """
    installed = versions()
    programs = {name: installed.get(name) for name in ("jax", *SIMULATOR)}
    named = without_places(values) | programs
    digests = {name: _digest(value) for name, value in named.items()}
    (_, expected), *others = talk.gather((socket.gethostname(), digests))
    for index, (name, found) in enumerate(others, 1):
        keys = sorted({*expected, *found})
        if different := [key for key in keys if expected.get(key) != found.get(key)]:
            raise InputError(
                f"host {index} ({name}) has another {different[0]} than host 0: start all with the "
                "same arguments, data and packages"
            )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
