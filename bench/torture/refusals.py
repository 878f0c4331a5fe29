"""How bad input must end: in one line and in seconds, and never as if it had been good."""

import contextlib
import io
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType

from pi0_jax.errors import InputError, first_line
from torture.ground import Row

_SECONDS = 300  # on a busy machine; a second on a quiet one
_WRONG = (1, 2)  # exit codes: the work failed, the input was wrong


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is wrong with it.
        call: gives it to what reads it: raises, or returns the exit code of a command; None for a
            function that took the input.
    """

    name: str
    call: Callable[[], object]


class _HangsError(BaseException):
    """What reads the input waits, or works for too long."""


def refused(what: str, cases: Iterable[Case]) -> Row:
    """Gives each bad input to what reads it, in this process; a row of the table."""
    wrong, count = [], 0
    for case in cases:
        count += 1
        fault = fault_of(case.call)
        wrong += [f"{case.name}: {fault}"] if fault else []
    return Row(what, count, wrong)


def fault_of(call: Callable[[], object]) -> str:
    """What is wrong with how an input ends; "" where it is refused in one line."""
    said = io.StringIO()
    # Such as that a folder has no digests.
    logging.disable()
    try:
        with _limited(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = call()
    # What commands print as one line (`errors.exit_status`, `cli.launch`).
    except (InputError, OSError) as error:
        return _one_line(f"error: {error}\n")
    except (Exception, SystemExit, _HangsError) as error:  # noqa: BLE001
        return f"{type(error).__name__}: {first_line(error)}"
    finally:
        logging.disable(logging.NOTSET)
    return _one_line(said.getvalue()) if type(code) is int and code in _WRONG else "accepted"


def _one_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    whole = said.endswith("\n") and said.count("\n") == len(lines) == 1
    return "" if whole else f"expected one line, got {said!r:.200}"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """A block that may not take for ever."""
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _hangs(number: int, frame: FrameType | None) -> None:
    raise _HangsError(f"no answer within {_SECONDS} s")
