"""The command line: every mistake is one line and exit code 2, before anything is done."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pi0_jax.apps import cli
from pi0_jax.apps.config_file import load_config
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
from pi0_jax.apps import cli
from pi0_jax.errors import InputError

def main(given):
    folder, config = given.workdir, given.config
    print("main", folder, given.resume, config.rl.cfg.alpha, config.eval.guidance)
    if folder.name == "wrong":
        raise InputError("the input was wrong")
    if folder.name == "interrupted":
        raise KeyboardInterrupt
    if folder.name == "full":
        raise OSError(28, "No space left on device", "x.npz")
    if folder.name == "broken":
        raise RuntimeError("the work failed")

cli.launch(main, "how to use it\\n")
"""
GOOD = ("--config", "configs/demo.py", "--workdir", "runs/x")


SAYS_AGAIN = "error: interrupted; run the same command to continue\n"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_overrides_reach_the_program():
    done = run(*GOOD, "--config.rl.cfg.alpha=0.5", "--config.eval.guidance=(1.0,4.0)", "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "main runs/x True 0.5 (1.0, 4.0)\n"


def parse(*arguments: str, **options: bool) -> cli.Arguments:
    """As in the program, without starting one."""
    return cli.parse(["program", *arguments], **options)


def test_every_field_of_task_and_demonstrator_can_be_set():
    given = parse(
        *GOOD,
        "--config.task.demonstrator.speed=(0.3,0.5)",
        "--config.task.demonstrator.hover=(0.06,0.07)",
        "--config.task.demonstrator.offset_sigma_z=0.01",
        "--config.task.demonstrator.action_noise=0",
        "--config.task.demonstrator.rotation_noise=0",
        "--config.task.demonstrator.render_every=2",
        "--config.task.placement=0.1",
    )
    suite = make_suite(given.config.suite, given.config.task.to_dict())
    assert suite.tasks == (LiftTask(placement=0.1),)
    assert suite.style == DemonstratorConfig(
        0.022, 0.01, 0.0, 0.0, speed=(0.3, 0.5), hover=(0.06, 0.07), render_every=2
    )


def test_overrides_work_for_every_kind_of_config(tmp_path):
    (tmp_path / "x.yaml").write_text("base: demo\nseed: 4\n")
    stored = {"config": load_config("demo").to_dict() | {"seed": 5}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    for name, seed in (("demo", 0), (tmp_path / "x.yaml", 4), (tmp_path / "config.json", 5)):
        given = parse(
            f"--config={name}", "--config.rows=2", "--workdir", "x", "--config.eval.videos", "1"
        )
        assert (given.config.seed, given.config.rows, given.config.eval.videos) == (seed, 2, 1)


def test_the_checkpoint_is_asked_for_where_it_is_needed():
    given = parse(*GOOD, "--checkpoint=~/p", checkpoint=True)
    assert given.checkpoint == Path.home() / "p"
    with pytest.raises(InputError, match="--checkpoint is missing"):
        parse(*GOOD, checkpoint=True)


def test_only_calls_into_an_ended_event_loop_are_not_printed(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "__unraisablehook__", lambda one: printed.append(one.exc_value))
    errors = [RuntimeError("Event loop is closed"), RuntimeError("no space"), OSError("x")]
    for error in errors:
        cli._after_interruption(SimpleNamespace(exc_value=error))
    assert printed == errors[1:]


def printed_help(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own Ctrl-C
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.launch(lambda given: pytest.fail("nothing is to be done"), "how to use it\n")
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help(monkeypatch, capsys):
    for flag in ("--help", "-h"):
        assert printed_help(monkeypatch, capsys, flag, "--wrong") == "how to use it\n"


def test_help_with_a_config_lists_every_key_as_the_flag_that_sets_it(monkeypatch, capsys):
    lines = printed_help(monkeypatch, capsys, "--help", "--config", "demo").splitlines()
    assert lines[:2] == ["how to use it", ""]
    some = {"--config.seed=0", "--config.suite=lift", "--config.rl.objective=cfg_detached"}
    assert some <= set(lines)
    # Each of them may be typed as it stands, and changes nothing.
    given = parse(*GOOD, *(word for line in lines[2:] for word in shlex.split(line)))
    assert given.config.to_dict() == load_config("demo").to_dict()


def test_an_argument_of_the_config():
    given = parse("--config=configs/demo.py:full", "--workdir=runs/x")
    assert (given.workdir, given.resume) == (Path("runs/x"), False)
    assert given.config.eval.guidance == (1.0, 1.5, 2.0)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        # An unknown key, and the valid one it is nearest to.
        ((*GOOD, "--config.rl.groups.grop_size=4"), ("'rl.groups.group_size'",)),
        ((*GOOD, "--config.sft.step", "4"), ("'sft.step'", "'sft.steps'")),
        ((*GOOD, "--config.sede=1"), ("'sede'", "'seed'")),
        ((*GOOD, "--noconfig.sft.augmnt"), ("'sft.augmnt'", "'sft.augment'")),
        # A key of an earlier version.
        (
            (*GOOD, "--config.rl.sampling.group_size=4"),
            ("config key rl.sampling.group_size is now rl.groups.group_size\n",),
        ),
        # Values of another type.
        ((*GOOD, "--config.rl.groups.group_size=many"), ("rl.groups.group_size", "many")),
        ((*GOOD, "--config.rl.cfg.alpha=low"), ("rl.cfg.alpha", "low")),
        # The config file.
        (("--config", "configs/none.py", "--workdir", "x"), ("--config", "configs/none.py")),
        (("--config", "configs/demo.py:fall", "--workdir", "x"), ("configs/demo.py", "'fall'")),
        (("--config", "pyproject.toml", "--workdir", "x"), ("--config",)),
        (("--workdir", "x"), ("--config is missing", "configs/demo.py")),
        # Everything else.
        (GOOD[:2], ("--workdir is missing",)),
        ((*GOOD, "--resum"), ("resum",)),
        ((*GOOD, "--checkpoint=x"), ("checkpoint",)),
        ((*GOOD, "extra"), ("unexpected argument 'extra'",)),
    ],
)
def test_mistakes(arguments, parts):
    """`test_exit_codes` shows how the program says it."""
    with pytest.raises(InputError) as caught:
        parse(*arguments)
    said = f"{caught.value}\n"
    assert said.count("\n") == 1, said
    for part in parts:
        assert part in said


def test_a_config_with_an_error_in_it(tmp_path):
    (tmp_path / "bad.py").write_text("def get_config():\n    return (\n")
    with pytest.raises(InputError, match=r"bad\.py") as caught:
        parse("--config", str(tmp_path / "bad.py"), "--workdir", "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("wrong", 2, "error: the input was wrong\n"),
        ("interrupted", 130, SAYS_AGAIN),
        ("full", 1, "error: [Errno 28] No space left on device: 'x.npz'\n"),
    ],
)  # fmt: skip
def test_exit_codes(name, code, says):
    done = run(*GOOD[:3], f"runs/{name}")
    assert (done.returncode, done.stderr) == (code, says)


def test_home_is_understood():
    assert parse(*GOOD[:2], "--workdir=~/x").workdir == Path.home() / "x"


def test_work_that_fails_before_there_is_a_run_keeps_its_traceback():
    done = run(*GOOD[:3], "runs/broken")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("RuntimeError: the work failed\n")


def test_a_traceback_of_a_run_goes_into_its_folder(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").touch()
    done = run(*GOOD[:3], str(tmp_path / "broken"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    file = tmp_path / "broken/error.txt"
    said = (
        f"error: RuntimeError: the work failed; .* with {file}, .*; run the same .* with --resume"
    )
    assert re.match(said, done.stderr)
    written = file.read_text()
    for words in ("Traceback", "RuntimeError: the work", '"jax":', '"suite": "lift"'):
        assert words in written


def test_a_fault_of_the_world_says_what_is_kept(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/config.json").touch()
    done = run(*GOOD[:3], str(tmp_path / "full"))
    assert done.returncode == 1
    assert done.stderr == (
        "error: [Errno 28] No space left on device: 'x.npz'; what was saved before is kept; run "
        "the same command with --resume to continue\n"
    )


def test_the_last_line_is_the_command_to_continue_with(tmp_path, monkeypatch):
    given = SimpleNamespace(workdir=tmp_path / "run")
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--workdir=a b"])
    assert cli._how_to_go_on(None) == "to continue: python train.py '--workdir=a b'"
    assert cli._how_to_go_on(given) == "to continue: python train.py '--workdir=a b'"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").touch()
    assert cli._how_to_go_on(given) == "to continue: python train.py '--workdir=a b' --resume"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "a\nb"])
    assert cli._how_to_go_on(given) == "run the same command with --resume to continue"


STOPPED = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from pi0_jax import interruption
from pi0_jax.apps import cli

def main(given):
    with interruption.deferred("the end of a test") as asked:
        for number in sys.argv[1:]:
            os.kill(os.getpid(), int(number))
            time.sleep(0.01)
        print("asked", asked())
    print("never")

given = SimpleNamespace(host="", coordinator="", workdir=Path("none"))
cli.parse = lambda argv, checkpoint: given
cli.launch(main, "")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_waits_for_the_end_of_what_must_not_be_lost(number):
    done = stopped(number)
    assert (done.returncode, done.stdout) == (130, "asked True\n")
    said = done.stderr.splitlines()[1]
    assert said.startswith("stopping: within 30 s, or later at the end of a test; a second")
    assert done.stderr.endswith(SAYS_AGAIN)


def test_a_second_signal_ends_at_once():
    done = stopped(signal.SIGTERM, signal.SIGINT)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1].startswith("error: interrupted twice; run the same command")


def stopped(*numbers):
    command = [sys.executable, "-c", STOPPED, *(str(int(number)) for number in numbers)]
    return subprocess.run(command, capture_output=True, text=True)


INTERRUPTED = """
import gc, os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from pi0_jax.apps import cli

once = [signal.SIGINT]

def in_a_callback(*_):
    if once:
        os.kill(os.getpid(), once.pop())

def main(given):
    gc.callbacks.append(in_a_callback)
    gc.collect()
    time.sleep(20)

cli.parse = lambda argv, checkpoint: SimpleNamespace(host="", coordinator="", workdir=Path("none"))
cli.launch(main, "")
"""


def test_an_interruption_in_the_garbage_collector_is_not_lost():
    """JAX has a callback there, and Python throws away what callbacks raise."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert time.monotonic() - began < 15
