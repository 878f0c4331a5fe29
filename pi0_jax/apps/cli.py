"""Command line of pi0-train and pi0-eval: one set of flags, and exit codes with a meaning.

Exit codes: 0 done, 1 the work failed, 2 the input was wrong, 130 interrupted.
"""

import gc
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from pi0_jax import interruption
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.failure import fault_of_the_world, mistake_of_ours
from pi0_jax.apps.old_keys import check_old_keys, new_name
from pi0_jax.errors import InputError, first_line
from pi0_jax.hosts import talk
from pi0_jax.hosts.joining import joined
from pi0_jax.hosts.talk import HostEndedError
from pi0_jax.plain_values import dotted, dotted_values, nearest
from pi0_jax.run.folder import is_run

# Ctrl-C, what schedulers send first, and SLURM's warning (--signal=USR1).
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SECONDS = 30  # that a scheduler gives between its signal and the kill, at least
_MOMENT_S = 0.05  # longer than any callback of the garbage collector


@dataclass(frozen=True)
class Arguments:
    """A command line.

    Attributes:
        config: the config that --config names, with the overrides of --config.KEY=VALUE.
        workdir: run folder to make or to resume.
        resume: continue the run in `workdir`.
        checkpoint: policy folder to evaluate; None where the command takes none, or with a server.
        server: address of the server whose policy is evaluated, or None.
        from_step: checkpoint to go on from, instead of the newest.
        host: which of the processes of this run this is (`hosts/joining.py`); "" where it is alone.
        coordinator: address of the first of them.
    """

    config: ConfigDict
    workdir: Path
    resume: bool
    checkpoint: Path | None = None
    server: str | None = None
    from_step: int | None = None
    host: str = ""
    coordinator: str = ""


def launch(main: Callable[[Arguments], None], usage: str, *, checkpoint: bool = False) -> NoReturn:
    """Parses the command line, runs `main`, and exits.

    Args:
        main: function that does the work.
        usage: text that --help prints; with --config, the config's keys and values follow.
        checkpoint: whether the command takes --checkpoint or --server, and needs one.
    """
    for number in (*_STOP, signal.SIGALRM):
        signal.signal(number, _interrupt)
    given = None
    try:
        # Before parsing: help must come even where a flag is missing or wrong.
        if {"--help", "-h"} & set(sys.argv):
            sys.stdout.write(usage)
            sys.stdout.writelines(_keys_of(sys.argv))
        else:
            given = parse(sys.argv, checkpoint=checkpoint)
            with joined(given.host, given.coordinator, _stop_soon):
                main(given)
    except HostEndedError as error:
        _fail(f"{error}; {_how_to_go_on(given)}", error.code)
    except InputError as error:
        _fail(str(error), 2)
    except OSError as error:
        # A full disk or a deleted file: the message has all that a user can act on, a traceback has
        # not.
        said = fault_of_the_world(error, given.workdir if given else None)
        _fail(f"{said}; {_how_to_go_on(given)}" if given and is_run(given.workdir) else said, 1)
    except Exception as error:
        said = mistake_of_ours(error, given.workdir, given.config.to_dict()) if given else None
        # Of several processes none may wait at its exit for others that have failed with it.
        if said is None and talk.count() == 1:
            raise
        _fail(f"{said or first_line(error)}; {_how_to_go_on(given)}", 1)
    except KeyboardInterrupt:
        sys.stderr.write(f"error: interrupted; {_how_to_go_on(given)}\n")
        sys.stderr.flush()
        # All our files and processes are closed by now. An ordinary exit would let libraries that
        # were interrupted in a write print errors after the message.
        os._exit(130)
    sys.exit(0)


def _how_to_go_on(given: Arguments | None) -> str:
    """The command that goes on with the run; the same command where none has begun."""
    begun = given is not None and is_run(given.workdir)
    words = list(sys.orig_argv)
    if any("\n" in word for word in words):
        return f"run the same command{' with --resume' * begun} to continue"
    if begun and "--resume" not in words:
        words.append("--resume")
    return f"to continue: {shlex.join(words)}"


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Handles a stop; where Python would drop the exception, the signal is repeated a bit later.

    A first signal stops the work where it is, or after an update and its checkpoint if it is in the
    middle of them; a second ends the process.
    """
    if _throws_away(frame):
        signal.setitimer(signal.ITIMER_REAL, _MOMENT_S)
        return
    # Threads of Orbax and TensorStore that still write a checkpoint would tell what they miss now.
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = _after_interruption
    for number in _STOP:
        signal.signal(number, _end)
    until = interruption.ask()
    sys.stderr.write(
        f"\nstopping: within {_SECONDS} s, or later at {until}; a second signal ends at once, and "
        "loses what came after the last checkpoint\n"
    )


def _stop_soon() -> None:
    """As a first signal, where none has come: the main thread is to end. Called in another one."""
    if signal.getsignal(signal.SIGTERM) == _interrupt:
        # To this thread, or it would go on waiting in the system.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _end(signal_number: int, frame: FrameType | None) -> None:
    sys.stderr.write("error: interrupted twice; run the same command with --resume to continue\n")
    sys.stderr.flush()
    os._exit(130)


def _after_interruption(unraisable: Any) -> None:
    """Prints what nobody can catch, but for calls into an event loop that has ended."""
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def _throws_away(frame: FrameType | None) -> bool:
    """Whether Python prints an exception raised in `frame` and then continues.

    It does in callbacks of the garbage collector, of which JAX has one, and in finalizers.
    """
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    # Up through all callers: the signal may arrive in a function that such a callback calls.
    while frame is not None:
        if frame.f_code in codes or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def parse(argv: Sequence[str], *, checkpoint: bool = False) -> Arguments:
    """Parses a command line; every mistake becomes one line that names it.

    Args:
        argv: the program and its arguments.
        checkpoint: whether --checkpoint and --server are flags of this command; one is needed.

    Raises:
        InputError: unknown flag or key (with the nearest valid one), ill-typed value, no config.
    """
    # --config first: only the config tells which --config.KEY flags exist.
    name, rest = _without_config(argv)
    # Not absl's global flags, so that tests and notebooks can parse more than once.
    values = flags.FlagValues()
    workdir = flags.DEFINE_string("workdir", None, "run folder", flag_values=values)
    resume = flags.DEFINE_bool("resume", False, "continue the run in --workdir", flag_values=values)
    back = flags.DEFINE_integer(
        "from", None, "with --resume: go on from this checkpoint", flag_values=values
    )
    host, coordinator = (
        flags.DEFINE_string(flag, "", text, flag_values=values)
        for flag, text in (("host", "INDEX/COUNT or auto"), ("coordinator", "address of host 0"))
    )
    sources = {"checkpoint": "policy folder", "server": "address of a policy server"}
    holders = [
        flags.DEFINE_string(flag, None, text, flag_values=values)
        for flag, text in sources.items()
        if checkpoint
    ]
    if name is None:
        raise InputError("--config is missing, e.g. --config demo or --config configs/demo.py")
    config = load_config(name)
    check_old_keys(config.to_dict())
    # Before absl sees the flags: its message for an unknown key does not name the nearest one.
    _check_keys(rest, config)
    _override(rest, config, values)
    policy, server = (holder.value for holder in holders) if checkpoint else (None, None)
    if checkpoint and not (policy or server):
        raise InputError("--checkpoint is missing: name a policy folder, e.g. runs/demo/policy")
    if policy and server:
        raise InputError("--checkpoint and --server: expected one of them")
    if not workdir.value:
        raise InputError("--workdir is missing: name the run folder, e.g. --workdir runs/demo")
    if back.value is not None and (checkpoint or not resume.value):
        raise InputError("--from STEP goes with --resume, and with training only")
    # No shell expands the ~ of --workdir=~/runs.
    folder = Path(workdir.value).expanduser()
    found = Path(policy).expanduser() if policy else None
    group = host.value, coordinator.value
    return Arguments(config, folder, resume.value, found, server, back.value, *group)


def _override(argv: Sequence[str], config: ConfigDict, values: flags.FlagValues) -> None:
    """Parses all flags; those of --config.KEY change the config in place."""
    try:
        # Looks at the command line itself, and defines one flag per override found there.
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=[*argv])
        left = values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # absl's messages have several lines; an error of ours is one.
        raise InputError(" ".join(str(error).split())) from error
    # The first is the program's own name.
    if len(left) > 1:
        raise InputError(f"unexpected argument {left[1]!r}; flags begin with --")


def _without_config(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --config, and the command line without it."""
    name, rest, words = None, [], iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-config"):
            name = value if equals else next(words, None)
        else:
            rest.append(word)
    return name, rest


def _keys_of(argv: Sequence[str]) -> list[str]:
    """A line per key of the config that --config names, as the flag that sets it; else none."""
    name, _ = _without_config(argv)
    if name is None:
        return []
    values = dotted_values(load_config(name).to_dict())
    # Quoted for a shell, so that a line can be copied.
    typed = {key: shlex.quote(str(value)) for key, value in values.items()}
    return ["\n", *(f"--config.{key}={value}\n" for key, value in typed.items())]


def _check_keys(argv: Sequence[str], config: ConfigDict) -> None:
    """Checks that every --config.KEY is a key of the config.

    Raises:
        InputError: one is not; the message has its new name or the nearest valid key.
    """
    known = set(dotted(config.to_dict()))
    for word in argv:
        # The key up to "=" or an index "[": --config.eval.guidance[0] belongs to eval.guidance.
        found = re.match(r"--?(?:no)?config\.([^=\[]+)", word)
        if not found or found[1] in known:
            continue
        key = found[1]
        if name := new_name(key):
            raise InputError(f"config key {key} is now {name}")
        near = nearest(key, sorted(known))
        raise InputError(f"unknown config key {key!r}; the nearest valid key is {near!r}")


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    if talk.count() > 1:
        # An ordinary exit waits for hosts that have ended.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
