"""The console scripts. A stop while their program is still being loaded is one line, too.

Loading jax and the rest takes seconds, in which Python would answer Ctrl-C with a traceback, and
SIGTERM with no word.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def train() -> NoReturn:
    """`pi0-train`."""
    _run("train")


def evaluate() -> NoReturn:
    """`pi0-eval`."""
    _run("evaluate")


def serve() -> NoReturn:
    """`pi0-serve`."""
    _run("serve")


def convert() -> NoReturn:
    """`pi0-convert`."""
    _run("convert")


def info() -> NoReturn:
    """`pi0-info`."""
    _run("info")


def _run(name: str) -> NoReturn:
    before = {number: signal.signal(number, signal.default_int_handler) for number in _STOP}
    try:
        program = importlib.import_module(f"pi0_jax.apps.{name}")
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was done\n")
        sys.stderr.flush()
        os._exit(130)
    # Each program handles signals in its own way.
    for number, handler in before.items():
        signal.signal(number, handler)
    command: Callable[[], NoReturn] = program.command
    command()
