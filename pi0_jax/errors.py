"""The one exception that means "the user's input was wrong" (exit code 2)."""

import sys
from collections.abc import Callable, Mapping, Sequence


class InputError(ValueError):
    """Input that cannot be used.

    The message is one sentence a user can act on: what was expected, what was got, what to do.
    Entry points print it and exit with code 2; it is raised before anything is overwritten.
    """


def exit_status(work: Callable[[], int | None], interrupted: str) -> int:
    """Runs a command; an error that the user can act on becomes one line and an exit code.

    Args:
        work: the command; it returns its exit code, or None for 0.
        interrupted: what to say after Ctrl-C.
    """
    try:
        return work() or 0
    except InputError as error:
        code, message = 2, str(error)
    except OSError as error:
        code, message = 1, str(error)
    except KeyboardInterrupt:
        # 128 + 2, as a shell reports a program that SIGINT ended.
        code, message = 130, interrupted
    # Messages of libraries may hold line breaks.
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def check_choices(section: str, values: object, choices: Mapping[str, tuple[object, ...]]) -> None:
    """Every named field of `values` is one of its choices.

    Args:
        section: of the config, for the message.
        values: has the fields as attributes.
        choices: field -> allowed values.

    Raises:
        InputError: the first field that is not.
    """
    for name, allowed in choices.items():
        value = getattr(values, name)
        if value not in allowed:
            names = ", ".join(repr(choice) for choice in allowed)
            raise InputError(f"{section}.{name} must be one of {names}, got {value!r}")


def some(names: Sequence[str], most: int) -> str:
    """Names for a message, such as "a, b and 3 more" where only two are wanted."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """What an exception says, as one line: the first of its message, or its type without one."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
