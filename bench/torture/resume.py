"""Runs that are begun or resumed one after another in this process, which has all programs.

A process of its own would import for seconds and trace every program again. What is shared here are
compiled updates and the simulators, which write nothing; real processes are used where the point is
a process (`signals.py`, `workers.py`), and for the unbroken run that all others are compared with.
"""

import contextlib
import gc
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from pi0_jax.apps import cli, stages
from pi0_jax.apps import evaluate as evaluate_app
from pi0_jax.apps import train as train_app
from pi0_jax.env.workers.in_process import InProcess
from pi0_jax.errors import InputError, first_line
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.run import engines
from pi0_jax.training import setup
from pi0_jax.training.memory import Budget
from torture.tiny_run import ROOT


@contextlib.contextmanager
def warm() -> Iterator[None]:
    """A block in which runs of one config share their programs and need no worker processes."""
    made: dict[Any, tuple[Any, Any]] = {}
    create, count = setup.create_training, setup.check

    def created(params: Any, loss: Any, config: Any, steps: int, hardware: Any) -> tuple[Any, Any]:
        state, update = create(params, loss, config, steps, hardware)
        key = (config, steps, hardware, _values(loss.evaluate), _values(loss.sample))
        return state, made.setdefault(key, (update, loss))[0]

    counted: list[Budget] = []

    def budget(job: Any) -> Budget:
        """The count of the first job: all of these are as small."""
        counted.extend([] if counted else [count(job)])
        return counted[0]

    drawn: dict[Any, PolicyFolder] = {}
    init = stages.init_policy

    def initial(spec: Any, stats: Any, seed: int) -> PolicyFolder:
        """Random parameters, drawn once: tracing takes longer than all the rest."""
        drawn[seed] = drawn.get(seed) or init(spec, stats, seed)
        return replace(drawn[seed], stats=stats)

    here = Path.cwd()
    with (
        # The encoder of videos collects after each, through all that was imported.
        mock.patch.object(gc, "collect", lambda *_: 0),
        mock.patch.object(stages, "init_policy", initial),
        mock.patch.object(setup, "create_training", created),
        mock.patch.object(setup, "check", budget),
        mock.patch.object(engines, "started", lambda *_: InProcess()),
    ):
        os.chdir(ROOT)
        try:
            yield
        finally:
            os.chdir(here)


def train(run: Path, *arguments: str) -> str:
    """train.py; returns what went wrong in one line, "" for nothing."""
    return _run(train_app.main, ["train.py", *arguments, f"--workdir={run}"])


def evaluate(run: Path, policy: Path, *arguments: str) -> str:
    """eval.py, likewise."""
    words = ["eval.py", *arguments, f"--checkpoint={policy}", f"--workdir={run}"]
    return _run(evaluate_app.main, words, checkpoint=True)


def _run(
    main: Callable[[cli.Arguments], None], words: list[str], *, checkpoint: bool = False
) -> str:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            main(cli.parse(words, checkpoint=checkpoint))
        except InputError as error:
            return f"error: {error}"
        # Whatever else: it is the result of this case.
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {first_line(error)}"
    return ""


def _values(function: Any) -> tuple[Any, ...]:
    """What a function computes with, so that equal values mean equal programs."""
    cells = function.__closure__ or ()
    return function.__code__, *(cell.cell_contents for cell in cells)
