"""metrics.jsonl over crashes and restarts, and the progress line on a terminal and in a log."""

import io
import json
import math
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.metrics_writer import MetricsWriter, Progress, duration, read_metrics


def test_lines_are_flat_and_finite(tmp_path: Path):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write(
            np.int64(3), "rl", method="ript", loss=np.float32(0.5), gap=math.nan, norm=-math.inf
        )
        # Flushed: a reader sees the line while the run goes on.
        (line,) = read_metrics(path)
    assert json.loads(path.read_text()) == line
    assert line["time"] > 1e9
    assert line["elapsed"] >= 0
    del line["time"], line["elapsed"]
    expected = {"step": 3, "phase": "rl", "method": "ript", "loss": 0.5, "gap": None, "norm": None}
    assert line == expected


def test_reopening_appends_after_a_crash(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "elapsed": 100.0}\n{"step": 2, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1]
    with MetricsWriter(path) as writer:
        writer.write(2, "sft")
    lines = read_metrics(path)
    assert [line["step"] for line in lines] == [1, 2]
    assert 100.0 <= lines[1]["elapsed"] < 101.0


@pytest.mark.parametrize("half", [b"", b'{"step": 2, "lo', bytes(40), bytes(4) + b'{"st'])
def test_what_a_power_cut_may_leave_is_dropped(tmp_path: Path, half: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + half)
    MetricsWriter(path).close()
    assert path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\n\x00half",
        b"[1]\n{}\nhalf",
        b"null",
        b"[" * 100000 + b"\n",
        b'{"step": 1}\n<html>',
    ],
    ids=("gzip", "list", "null", "nested", "page"),
)
def test_what_is_no_file_of_metrics_is_not_cut(tmp_path: Path, content: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.jsonl.*: expected .*JSON"):
        MetricsWriter(path)
    assert path.read_bytes() == content


def test_a_pipe_in_its_place_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics\.jsonl: expected a plain file, got a pipe"):
        MetricsWriter(tmp_path / "metrics.jsonl")


def test_rewinding_drops_what_will_be_repeated(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step in (1, 2, 3):
            for phase, method in (("sft", "base"), ("rl", "base"), ("sft", "other")):
                writer.write(step, phase, method=method)
        before = path.read_bytes()
        writer.rewind("sft", "base", 3)
        assert path.read_bytes() == before
        writer.rewind("sft", "base", 1)
        writer.write(2, "sft", method="base", again=True)
    lines = [(line["phase"], line["method"], line["step"]) for line in read_metrics(path)]
    assert [step for phase, method, step in lines if (phase, method) == ("sft", "base")] == [1, 2]
    assert [step for phase, method, step in lines if (phase, method) == ("rl", "base")] == [1, 2, 3]
    assert [step for phase, method, step in lines if (phase, method) == ("sft", "other")] == [
        1,
        2,
        3,
    ]
    kept = [line for line in before.splitlines() if line in path.read_bytes().splitlines()]
    assert len(kept) == 7  # as they were, their times included


def test_iterations_that_share_a_step_are_told_apart(tmp_path: Path):
    """An iteration without an update has the optimizer step of the one before."""
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step, iteration in ((4, 1), (4, 2), (8, 3)):
            writer.write(step, "rl", method="ript", iteration=iteration)
        writer.rewind("rl", "ript", 1, key="iteration")
    assert [line["iteration"] for line in read_metrics(path)] == [1]


def test_no_file_has_no_lines(tmp_path: Path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("bad", ["nonsense", "[1]"])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, bad: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{bad}\n{{"step": 2}}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2"):
        read_metrics(path)


def test_wandb_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        MetricsWriter(tmp_path / "metrics.jsonl", wandb_project="pi0")


def test_wandb_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []
    run = types.SimpleNamespace(log=calls.append, finish=lambda: calls.append("finish"))
    module = types.SimpleNamespace(init=lambda **kwargs: calls.append(kwargs) or run)
    monkeypatch.setitem(sys.modules, "wandb", module)
    with MetricsWriter(tmp_path / "metrics.jsonl", wandb_project="pi0") as writer:
        writer.write(7, "rl", loss=0.5)
    assert calls[0]["project"] == "pi0"
    MetricsWriter(tmp_path / "metrics.jsonl", wandb_project="pi0").close()
    # A resumed run goes on in the same W&B run.
    assert calls[0]["id"] == calls[-2]["id"] != ""
    assert calls[0]["resume"] == calls[-2]["resume"] == "allow"
    assert calls[1]["rl/step"] == 7
    assert calls[1]["rl/loss"] == 0.5
    assert calls[2] == "finish"


def test_wandb_that_lets_nobody_in_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty)\ncall wandb.login")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=refuse))
    with pytest.raises(InputError, match=r"'pi0': api_key not configured \(no-tty\); run `wan"):
        MetricsWriter(tmp_path / "metrics.jsonl", wandb_project="pi0")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_names_the_file(tmp_path: Path):
    (tmp_path / "metrics.jsonl").touch()
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer._file.close()
    writer._file = Path("/dev/full").open("wb")  # noqa: SIM115
    with pytest.raises(OSError, match=r"No space left on device: '.*/metrics\.jsonl'"):
        writer.write(1, "sft")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_on_a_terminal_stays_on_one_line():
    stream, clock = Terminal(), Clock()
    with Progress("rollouts", 48, stream, clock=clock) as progress:
        progress.update(1)
        clock.now = 0.05
        progress.update(2)  # too fresh to be shown
        clock.now = 30.0
        progress.update(12, "ok 9/12")
    shown = stream.getvalue()
    assert shown.endswith("\n")
    assert shown.count("\n") == 1
    assert "2/48" not in shown.replace("12/48", "")
    # 12 of 48 in 30 s: the other 36 take 90 s.
    assert "\rrollouts  12/48  25%  0:30  left 1:30  ok 9/12\x1b[K" in shown


def test_progress_cuts_to_the_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    Progress("rollouts", 48, stream).update(1, "x" * 100)
    assert len(stream.getvalue()) == len("\r\x1b[K") + 19


def test_progress_in_a_log_is_sparse():
    stream, clock = io.StringIO(), Clock()
    with Progress("sft", 1000, stream, clock=clock) as progress:
        for step in range(1000):
            clock.now = step * 0.05
            progress.update(step + 1)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5  # at 0, 15, 30, 45 s and the end
    assert lines[-1] == "sft  1000/1000  100%  0:50"
    assert "\r" not in stream.getvalue()


def test_resumed_progress_judges_speed_by_its_own_work():
    stream, clock = io.StringIO(), Clock()
    progress = Progress("sft", 100, stream, done=80, clock=clock)
    clock.now = 10.0
    progress.update(90)
    assert stream.getvalue() == "sft  90/100  90%  0:10  left 0:10\n"


def test_duration():
    assert [duration(s) for s in (0.4, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]
