"""What a run reports while it works: metrics.jsonl, an optional W&B mirror, a progress line."""

import importlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pi0_jax.errors import InputError, first_line
from pi0_jax.io.atomic import naming, write_text
from pi0_jax.io.durable import make_folder
from pi0_jax.json_file import parse
from pi0_jax.optional import needed
from pi0_jax.plain_file import read_bytes

_MOST_BYTES = 2**31  # millions of lines
_WANDB_RUN = ".wandb_run"  # beside metrics.jsonl: the name that W&B knows the run by


class MetricsWriter:
    """Appends one flat JSON object per line to metrics.jsonl.

    Each line has `step`, `phase`, the given scalars, `time` (Unix seconds) and `elapsed` (seconds
    that the run has worked, without the pauses between interruption and resumption).

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, wandb_project: str | None = None):
        """Opens the file for appending; the lines of an earlier process stay.

        Args:
            path: the file; parent folders are made.
            wandb_project: mirror every line to a W&B run in this project, named after the run
                folder; a resumed run goes on with its own.

        Raises:
            InputError: as `read_metrics`; or a W&B project is given, and wandb is not installed or
                lets nobody in.
        """
        self.path = path
        make_folder(path.parent)
        self._wandb = _start_wandb(wandb_project, path.parent) if wandb_project else None
        # First: what is no file of metrics is not cut. A resumed run counts its seconds on from the
        # last line.
        earlier = read_metrics(path)
        self._file = path.open("a+b")
        _drop_half_line(self._file)
        self._start = time.monotonic() - (earlier[-1].get("elapsed") or 0.0 if earlier else 0.0)

    def write(self, step: int, phase: str, **scalars: Any) -> None:
        """Writes one line at once, so that a crash loses none; NaN and infinity become null.

        Args:
            step: counter of optimizer steps (or episodes, in a phase without training).
            phase: "demonstrations", "sft", "rl" or "eval".
            **scalars: numbers, strings, None, or arrays of shape [].
        """
        values = {name: _plain(value) for name, value in scalars.items()}
        clocks = {
            "time": round(time.time(), 3),
            "elapsed": round(time.monotonic() - self._start, 3),
        }
        line = {"step": _plain(step), "phase": phase, **values, **clocks}
        with naming(self.path):
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            self._file.flush()
            # Also a power cut: a checkpoint counts on the lines before it.
            os.fsync(self._file.fileno())
        if self._wandb is not None:
            # W&B drops lines whose step goes back, and every phase counts from 0. So the step is
            # logged as one more value.
            self._wandb.log({f"{phase}/{name}": value for name, value in line.items()})

    def rewind(self, phase: str, method: str, last: int, key: str = "step") -> None:
        """Drops the lines of this phase and method after those that a resumed run goes on from.

        A W&B mirror keeps them.

        Args:
            phase: as in `write`.
            method: value of the lines' `method`.
            last: value of `key` in the last line to keep.
            key: "step"; "iteration" where several lines may have one step.
        """

        def repeated(line: dict[str, Any]) -> bool:
            """Whether the line will be written again."""
            same = line.get("phase") == phase and line.get("method") == method
            return same and line.get(key, 0) > last

        lines = read_metrics(self.path)
        kept = [line for line in lines if not repeated(line)]
        if len(kept) == len(lines):
            return
        # The name belongs to another file from here on, so the file is opened again.
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file.close()
        self._file = self.path.open("a+b")

    def close(self) -> None:
        """Closes the file and ends the W&B run."""
        self._file.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without a last line that a crash cut short.

    A file that does not exist has no lines.

    Raises:
        InputError: it is no plain file, or a line before the last is not a JSON object.
    """
    if not path.exists():
        return []
    # Whatever follows the last line end is incomplete.
    whole, _, half = read_bytes(path, _MOST_BYTES).rpartition(b"\n")
    # After a power cut bytes may be there that were never written.
    if (begun := half.lstrip(b"\0")) and not begun.startswith(b"{"):
        raise InputError(f"{path}: expected lines of JSON, got {half[:80]!r}")
    return [_parse(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]


class Progress:
    """A line that shows how far a phase is. A terminal shows it in place, a log every 15 s.

    Example: `rl rollouts  31/48  65 %  0:42  left 0:23  ok 20/31`
    """

    def __init__(
        self,
        phase: str,
        total: int,
        stream: TextIO,
        *,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the clock; writes nothing yet.

        Args:
            phase: name of the work.
            total: all units of work.
            stream: where to write, usually sys.stderr.
            done: units that an earlier process did; the time left is not estimated from them.
            clock: gives seconds; tests have their own.
        """
        self._phase, self._total, self._stream, self._clock = phase, total, stream, clock
        self._first, self._done, self._text = done, done, ""
        self._start = clock()
        self._terminal = stream.isatty()
        # Ten updates per second look smooth; in a log file one line per 15 s is enough.
        self._interval_s = 0.1 if self._terminal else 15.0
        self._shown, self._stale = -math.inf, True

    def update(self, done: int, text: str = "") -> None:
        """Shows `done` units and a free text, unless a line was shown just before.

        Args:
            done: units done so far, with those of earlier processes.
            text: anything short, such as "ok 31/48" or "loss 0.213".
        """
        self._done, self._text, self._stale = done, text, True
        if self._clock() - self._shown >= self._interval_s:
            self._show()

    def close(self) -> None:
        """Shows the last state, if it was not shown yet, and ends the line."""
        if self._stale:
            self._show()
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _show(self) -> None:
        self._shown, self._stale = self._clock(), False
        line = self._line()
        if self._terminal:
            # One column stays free: a full line would wrap, and \r would not reach its start.
            columns = shutil.get_terminal_size().columns - 1
            line = f"\r{line[:columns]}\x1b[K"
        self._stream.write(line if self._terminal else line + "\n")
        self._stream.flush()

    def _line(self) -> str:
        elapsed, worked = self._clock() - self._start, self._done - self._first
        share = self._done / self._total if self._total else 1.0
        parts = [self._phase, f"{self._done}/{self._total}", f"{share:.0%}", duration(elapsed)]
        if worked > 0 and self._done < self._total:
            left = elapsed * (self._total - self._done) / worked
            parts.append(f"left {duration(left)}")
        return "  ".join([*parts, self._text]).rstrip()


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _plain(value: Any) -> Any:
    """A scalar of Python, NumPy or JAX as a value that JSON has."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = parse(line)
    except ValueError as error:
        raise InputError(f"{path}:{number}: expected a JSON object, got {line[:80]!r}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}:{number}: expected a JSON object, got {line[:80]!r}")
    return value


def _drop_half_line(file: Any) -> None:
    """Cuts what follows the last line end, so that the next line starts on its own."""
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)


def import_wandb(project: str) -> Any:
    """The package of W&B, which is no dependency.

    Raises:
        InputError: it is not installed.
    """
    with needed(f"wandb_project={project!r}", "pip install wandb"):
        return importlib.import_module("wandb")


def _start_wandb(project: str, run_dir: Path) -> Any:
    wandb = import_wandb(project)
    # A resumed run goes on in the W&B run that it began.
    noted = run_dir / _WANDB_RUN
    run_id = noted.read_text().strip() if noted.exists() else uuid.uuid4().hex[:8]
    try:
        run = wandb.init(
            project=project, name=run_dir.name, dir=str(run_dir), id=run_id, resume="allow"
        )
    # Whatever it raises (no login, no network, no such project) is no fault of the training.
    except Exception as error:
        raise InputError(
            f"W&B project {project!r}: {first_line(error)}; run `wandb login` first, set "
            "WANDB_MODE=offline, or leave the project empty"
        ) from error
    write_text(noted, f"{run_id}\n")
    return run
