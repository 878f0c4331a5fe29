"""Command line of train.py and eval.py: one flag grammar, and exit codes that mean something.

0 done, 1 the work failed, 2 the input was wrong, 130 interrupted.
"""

import difflib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from pi0_jax.errors import InputError

CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/NAME.py[:ARG]")
WORKDIR = flags.DEFINE_string("workdir", None, "run folder to make or to resume")
RESUME = flags.DEFINE_bool("resume", False, "continue the run in --workdir")

_MOMENT_S = 0.05  # longer than any callback of the garbage collector


def launch(main: Callable[[], None]) -> None:
    """Parses the command line, runs `main`, and exits."""
    if {"--help", "-h"} & set(sys.argv):
        sys.stdout.write(f"{sys.modules['__main__'].__doc__}")
        sys.exit(0)
    for interruption in (signal.SIGINT, signal.SIGALRM):
        signal.signal(interruption, _interrupt)
    try:
        parse(sys.argv)
        main()
    except InputError as error:
        _fail(str(error), 2)
    except OSError as error:
        # A full disk, a file that vanished: the message says all that a user can mend.
        _fail(str(error), 1)
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; run the same command with --resume to continue\n")
        sys.stderr.flush()
        # Everything of ours is closed by now; an ordinary exit would let libraries that were
        # caught in the middle of a write complain behind the message.
        os._exit(130)
    sys.exit(0)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Ctrl-C. Where Python throws exceptions away, it comes again a moment later."""
    if _throws_away(frame):
        signal.setitimer(signal.ITIMER_REAL, _MOMENT_S)
        return
    raise KeyboardInterrupt


def _throws_away(frame: FrameType | None) -> bool:
    """Whether an exception raised in `frame` is printed and forgotten.

    That is so in callbacks of the garbage collector, of which JAX has one, and in finalizers.
    """
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in codes or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def parse(argv: list[str]) -> None:
    """Parses flags; every mistake becomes one line that names it.

    Raises:
        InputError: unknown flag or key (with the nearest valid one), ill-typed value, no config.
    """
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None and not isinstance(CONFIG.value, ConfigDict):
            CONFIG.value.to_dict()  # a stand-in that raises only now why there is no config
    except flags.Error as error:
        raise InputError(_last_cause(str(error))) from error
    except (AttributeError, KeyError) as error:
        raise InputError(_unknown_key(argv, str(error))) from error
    except (OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(_last_cause(f"--config: {error}")) from error
    if len(rest) > 1:
        raise InputError(f"unexpected argument {rest[1]!r}; flags begin with --")
    if CONFIG.value is None:
        raise InputError("--config is missing, e.g. --config configs/demo.py")


def workdir() -> Path:
    """The folder named by --workdir.

    Raises:
        InputError: the flag is missing.
    """
    if not WORKDIR.value:
        raise InputError("--workdir is missing: name the run folder, e.g. --workdir runs/demo")
    # No shell expands the ~ of --workdir=~/runs.
    return Path(WORKDIR.value).expanduser()


def _last_cause(message: str) -> str:
    """One line; of a config file's traceback only what it raised."""
    message = " ".join(message.split())
    _, missing, path = message.partition("No such file or directory: ")
    if missing:
        return f"--config: no such file: {path}"
    head, found, cause = message.rpartition("Error: ")
    return f"--config: {cause}" if found and "Traceback" in head else head + found + cause


def _unknown_key(argv: list[str], message: str) -> str:
    """Names the misspelt --config.KEY and the valid key nearest to it."""
    known = sorted(_keys(_default_config(argv)))
    for argument in argv:
        key = argument.lstrip("-").split("=")[0].removeprefix("config.")
        if argument.startswith("--config.") and known and key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            return f"unknown config key {key!r}; the nearest valid key is {near!r}"
    return f"--config: {message}"


def _default_config(argv: list[str]) -> Any:
    """The config without overrides, to list its keys."""
    values = flags.FlagValues()
    keep = [argv[0], *(a for i, a in enumerate(argv) if _is_config(a, argv[i - 1] if i else ""))]
    # Without `sys_argv` it would read the overrides of this process again.
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=keep)
    try:
        values(keep)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return config.value


def _is_config(argument: str, before: str) -> bool:
    return argument.startswith("--config=") or "--config" in (argument, before)


def _keys(config: Any, prefix: str = "") -> Iterable[str]:
    if not isinstance(config, ConfigDict):
        return
    for name in config:
        yield f"{prefix}{name}"
        yield from _keys(config[name], f"{prefix}{name}.")


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(code)
