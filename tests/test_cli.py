"""The command line: every mistake is one line and exit code 2, before anything is done."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
from pi0_jax.apps import cli
from pi0_jax.errors import InputError

def main():
    folder = cli.workdir()
    print("main", folder, cli.RESUME.value, cli.CONFIG.value.rl.cfg.alpha, cli.CONFIG.value.eval.guidance)
    if folder.name == "wrong":
        raise InputError("the input was wrong")
    if folder.name == "interrupted":
        raise KeyboardInterrupt
    if folder.name == "full":
        raise OSError(28, "No space left on device", "x.npz")
    if folder.name == "broken":
        raise RuntimeError("the work failed")

cli.launch(main)
"""  # noqa: E501
GOOD = ("--config", "configs/demo.py", "--workdir", "runs/x")


SAYS_RESUME = "error: interrupted; run the same command with --resume to continue\n"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_overrides():
    done = run(*GOOD, "--config.rl.cfg.alpha=0.5", "--config.eval.guidance=(1.0,4.0)", "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "main runs/x True 0.5 (1.0, 4.0)\n"


def test_an_argument_of_the_config():
    done = run("--config=configs/demo.py:full", "--workdir=runs/x")
    assert done.stdout == "main runs/x False 0.1 (0.0, 1.0, 1.5, 2.0, 3.0)\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        # An unknown key, and the valid one it is nearest to.
        ((*GOOD, "--config.rl.groups.grop_size=4"), ("'rl.groups.group_size'",)),
        ((*GOOD, "--config.sft.step", "4"), ("'sft.step'", "'sft.steps'")),
        ((*GOOD, "--config.sede=1"), ("'sede'", "'seed'")),
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
        ((*GOOD, "extra"), ("unexpected argument 'extra'",)),
    ],
)
def test_mistakes(arguments, parts):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for part in parts:
        assert part in done.stderr


def test_a_config_with_an_error_in_it(tmp_path):
    (tmp_path / "bad.py").write_text("def get_config():\n    return (\n")
    done = run("--config", str(tmp_path / "bad.py"), "--workdir", "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "bad.py" in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("wrong", 2, "error: the input was wrong\n"),
        ("interrupted", 130, SAYS_RESUME),
        ("full", 1, "error: [Errno 28] No space left on device: 'x.npz'\n"),
    ],
)  # fmt: skip
def test_exit_codes(name, code, says):
    done = run(*GOOD[:3], f"runs/{name}")
    assert (done.returncode, done.stderr) == (code, says)


def test_home_is_understood():
    done = run(*GOOD[:2], "--workdir=~/x")
    assert done.stdout.startswith(f"main {Path.home() / 'x'} ")


def test_work_that_fails_keeps_its_traceback():
    done = run(*GOOD[:3], "runs/broken")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("RuntimeError: the work failed\n")


INTERRUPTED = """
import gc, os, signal, sys, time
from pi0_jax.apps import cli

once = [signal.SIGINT]

def in_a_callback(*_):
    if once:
        os.kill(os.getpid(), once.pop())

def main():
    gc.callbacks.append(in_a_callback)
    gc.collect()
    time.sleep(20)

cli.parse = lambda argv: None
cli.launch(main)
"""


def test_an_interruption_in_the_garbage_collector_is_not_lost():
    """JAX has a callback there, and Python throws away what callbacks raise."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert time.monotonic() - began < 15
